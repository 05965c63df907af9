"""PostgreSQL's own programs, psql and pgbench, run against a test's databases."""

import subprocess

from alih.postgres.embedded import binary

_WITHIN_S = 120.0


def psql(dsn: str, script: str) -> str:
    """Run `script`, stopping at its first error, and return what it printed: unaligned, rows only."""
    return run(
        "psql", "--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "-v", "ON_ERROR_STOP=1", dsn, stdin=script
    )


def pgbench(dsn: str, *options: str) -> str:
    """Run pgbench to its end and return what it printed."""
    return run("pgbench", *options, dsn)


def run(program: str, *arguments: str, stdin: str = "", version: int = 18) -> str:
    """Run one of PostgreSQL's programs to its end; a failure raises AssertionError with what it said."""
    argv = [str(binary(program, version)), *arguments]
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=_WITHIN_S, check=False)
    if done.returncode != 0:
        raise AssertionError(f"{program} ended with {done.returncode}: {done.stderr}")
    return done.stdout.strip()
