"""The whole of `alih run` as a user has it: two databases of pgbench, load on the source, a role without superuser."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest

from alih.postgres.embedded import binary
from alih.process import child
from tests.support.databases import Databases
from tests.support.pgtools import pgbench, psql
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

# Everything that a database and its server could keep of a migration, by name; statistics and numbers of pages not.
CATALOG: tuple[LiteralString, ...] = (
    "SELECT 'class', oid::regclass::text, relkind::text, relowner::regrole::text, reloptions::text, relreplident::text"
    " FROM pg_class WHERE relnamespace::regnamespace::text !~ '^pg_(catalog|toast)|information_schema'",
    "SELECT 'class acl', c.oid::regclass::text, a::text FROM pg_class c, unnest(relacl) a"
    " WHERE relnamespace::regnamespace::text !~ '^pg_(catalog|toast)|information_schema'",
    "SELECT 'attribute', attrelid::regclass::text, attname::text, format_type(atttypid, atttypmod), attnotnull::text,"
    " attacl::text FROM pg_attribute JOIN pg_class c ON c.oid = attrelid"
    " WHERE attnum > 0 AND relnamespace::regnamespace::text !~ '^pg_(catalog|toast)|information_schema'",
    "SELECT 'constraint', conrelid::regclass::text, conname::text, pg_get_constraintdef(oid) FROM pg_constraint",
    "SELECT 'function', oid::regprocedure::text FROM pg_proc WHERE oid >= 16384",
    "SELECT 'trigger', tgrelid::regclass::text, tgname::text FROM pg_trigger",
    "SELECT 'event trigger', evtname::text FROM pg_event_trigger",
    "SELECT 'type', oid::regtype::text FROM pg_type WHERE oid >= 16384"
    " AND typnamespace::regnamespace::text !~ '^pg_(catalog|toast)|information_schema'",
    "SELECT 'namespace', nspname::text, nspacl::text FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp_'",
    "SELECT 'publication', pubname::text FROM pg_publication",
    "SELECT 'subscription', subname::text FROM pg_subscription",
    "SELECT 'slot', slot_name::text FROM pg_replication_slots",
    "SELECT 'origin', roname FROM pg_replication_origin",
    "SELECT 'role', rolname::text, rolreplication::text, rolsuper::text FROM pg_roles",
    "SELECT 'parameter', parname, paracl::text FROM pg_parameter_acl",
    "SELECT 'setting', setdatabase::text, setrole::regrole::text, setconfig::text FROM pg_db_role_setting",
    "SELECT 'database', datname::text, datacl::text FROM pg_database WHERE datname = current_database()",
    "SELECT 'extension', extname::text FROM pg_extension",
    "SELECT 'rule', rulename::text FROM pg_rewrite WHERE oid >= 16384",
    "SELECT 'policy', polname::text FROM pg_policy",
    "SELECT 'large object', oid::text FROM pg_largeobject_metadata",
    "SELECT 'prepared', gid FROM pg_prepared_xacts",
    "SELECT 'lock', objid::text FROM pg_locks WHERE locktype = 'advisory'",
)
TABLES = ("pgbench_accounts", "pgbench_branches", "pgbench_tellers")


def snapshot(dsn: str) -> set[tuple[Any, ...]]:
    with psycopg.connect(dsn, autocommit=True) as connection:
        return {row for query in CATALOG for row in connection.execute(query).fetchall()}


@dataclass(frozen=True, slots=True)
class Alih:
    """The command line, as a process of its own."""

    directory: Path
    environment: dict[str, str]

    async def __call__(self, *arguments: str, code: int = 0) -> str:
        """What it prints; any other exit code fails the test."""
        argv = [sys.executable, "-m", "alih", *arguments]
        return await asyncio.to_thread(self._run, argv, code)

    def _run(self, argv: Sequence[str], code: int) -> str:
        done = subprocess.run(
            argv, capture_output=True, text=True, cwd=self.directory, env=self.environment, timeout=300, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr


async def test_pgbench_moves_under_load(databases: Databases, tmp_path: Path) -> None:
    await move(databases, tmp_path, scale=2)


@pytest.mark.long
async def test_pgbench_moves_under_load_at_scale_10(databases: Databases, tmp_path: Path) -> None:
    await move(databases, tmp_path, scale=10)


async def move(databases: Databases, directory: Path, *, scale: int) -> None:
    await asyncio.to_thread(pgbench, databases.source, "-i", "-q", "-s", str(scale))
    psql(databases.source, "CREATE ROLE mover LOGIN")
    alih = Alih(directory, environment(databases, directory))
    target_before = snapshot(databases.target)
    await draft(alih, directory)
    await let_the_dba_prepare(alih, databases)
    source_before = without_publications(snapshot(databases.source))
    await run_under_load(alih, databases)
    await catch_up_and_compare(alih, databases, scale)
    await clean(alih, databases)
    assert snapshot(databases.source) == source_before
    assert {row for row in snapshot(databases.target) if not of_the_tables(row)} == target_before


def environment(databases: Databases, directory: Path) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}  # noqa: TID251 - for a child
    mover = databases.source.replace("user=postgres", "user=mover")
    return kept | {"ALIH_SOURCE": mover, "ALIH_TARGET": databases.target, "XDG_STATE_HOME": str(directory / "state")}


async def draft(alih: Alih, directory: Path) -> None:
    said = await alih("init", "--name", "bench")
    assert "alih run --create-target makes" in said
    text = (directory / "alih.yaml").read_text(encoding="utf-8")
    left = text[text.index("tables_not_moved:") :]
    assert left.splitlines()[1:] == [
        '  pgbench_history: "no primary key: to move it, add one at the source and the target, then draft again"'
    ]


async def let_the_dba_prepare(alih: Alih, databases: Databases) -> None:
    """The first run makes the tables and says what the role lacks; the printed statements mend that, as they are."""
    said = await alih("run", "--create-target", "--until-verified", code=69)
    assert "the source database is not ready" in said
    assert "let its DBA run what `alih check --sql source` prints" in said
    statements = await alih("check", "--sql", "source")
    assert 'CREATE PUBLICATION "alih_bench_forward"' in statements
    psql(databases.source, statements)


async def run_under_load(alih: Alih, databases: Databases) -> None:
    """The load goes on until the verdict is there; the stream is followed on."""
    run = [sys.executable, "-m", "alih", "run", str(alih.directory / "alih.yaml")]
    load = [str(binary("pgbench", 18)), "-n", "-c", "4", "-T", "300", "-R", "800", databases.source]
    async with (
        child(load, log=alih.directory / "pgbench.log") as pressing,
        child(run, log=alih.directory / "run.log", env=alih.environment) as running,
    ):
        await until(lambda: verified(alih), within_s=120)
        assert pressing.returncode is None
        assert running.returncode is None
    assert "0 differ, 0 undecided" in (alih.directory / "run.log").read_text(encoding="utf-8")


async def verified(alih: Alih) -> bool:
    """There is a verdict, and lag is shown, as long as the stream is followed."""
    forward = json.loads(await alih("status", "--json"))["streams"].get("forward", {})
    return bool(forward.get("followed")) and forward["lag_bytes"] >= 0 and forward["verdict"] is not None


async def catch_up_and_compare(alih: Alih, databases: Databases, scale: int) -> None:
    said = await alih("run", "--until-verified")  # goes on where the first one ended
    assert f"verified {scale * 100_011} rows: 0 differ, 0 undecided" in said
    status = json.loads(await alih("status", "--json"))["streams"]["forward"]
    verdict = status["verdict"]
    assert (verdict["clean"], verdict["rows"], verdict["mismatches"]) == (True, scale * 100_011, 0)
    assert (status["stopped"], status["stray_writes"]) == (None, 0)
    assert [(c["entity"], c["state"]) for c in status["chunks"]] == [(table, "done") for table in TABLES]
    sums = (
        "SELECT sum(abalance), count(*) FROM pgbench_accounts UNION ALL SELECT sum(bbalance), count(*) FROM"
        " pgbench_branches UNION ALL SELECT sum(tbalance), count(*) FROM pgbench_tellers"
    )
    here, there = psql(databases.source, sums), psql(databases.target, sums)
    assert here == there
    assert psql(databases.source, "SELECT sum(delta) FROM pgbench_history") == here.split("|")[0]


async def clean(alih: Alih, databases: Databases) -> None:
    said = await alih("clean")
    left = [line.partition(": left for the owner of the tables: ")[2] for line in said.splitlines()[:-1]]
    assert left == ['DROP PUBLICATION IF EXISTS "alih_bench_forward";']
    psql(databases.source, "\n".join(left))
    assert "no other trace is left" in await alih("clean")


def without_publications(rows: set[tuple[Any, ...]]) -> set[tuple[Any, ...]]:
    return {row for row in rows if row[0] != "publication"}


def of_the_tables(row: tuple[Any, ...]) -> bool:
    return any(table in str(value) for value in row for table in TABLES)
