"""The command `alih` as a user runs it: a process of its own, its output kept to be searched for secrets."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.waiting import until

PASSWORD = "Rahasia-4711"
"""In every DSN; the servers do not ask for it, and nobody may print it."""


@dataclass(frozen=True, slots=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        document: dict[str, Any] = json.loads(self.out)
        return document


@dataclass(eq=False, slots=True)
class Serving:
    """A running `alih serve` (or `alih run`)."""

    process: asyncio.subprocess.Process
    out: Path
    err: Path

    async def says(self, words: str, within_s: float = 60.0) -> None:
        """Wait until it has said so; a process that ended instead fails the test with what it said last."""

        def said() -> bool:
            if words in self.out.read_text():
                return True
            assert self.process.returncode is None, self.err.read_text()
            return False

        await until(said, within_s)

    async def ends(self, how: signal.Signals | None = None, within_s: float = 30.0) -> Done:
        if how is not None:
            self.process.send_signal(how)
        async with asyncio.timeout(within_s):
            code = await self.process.wait()
        return Done(code, self.out.read_text(), self.err.read_text())


@dataclass(slots=True)
class Command:
    """`alih` with a contract, a state directory of its own, and the environment that it reads."""

    directory: Path
    contract: Path
    variables: Mapping[str, str]
    said: list[str] = field(default_factory=list)
    runs: int = 0

    async def run(self, *arguments: str, within_s: float = 60.0) -> Done:
        async with self.started(*arguments) as started:
            return await started.ends(within_s=within_s)

    @asynccontextmanager
    async def started(self, *arguments: str) -> AsyncIterator[Serving]:
        """Run it beside the test; one that still runs afterwards is killed."""
        self.runs += 1
        out, err = (self.directory / f"{self.runs}-{arguments[0]}.{name}" for name in ("out", "err"))
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "alih", *arguments, str(self.contract)),
                stdout=stdout,
                stderr=stderr,
                env=self._environment(),
                cwd=self.directory,
            )
        try:
            yield Serving(process, out, err)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}  # noqa: TID251
        return kept | {"XDG_STATE_HOME": str(self.directory / "state")} | dict(self.variables)

    def written(self) -> dict[Path, str]:
        """Everything that alih has printed or left in a file of its state directory, by file."""
        return {
            path: path.read_bytes().decode(errors="replace")
            for path in self.directory.rglob("*")
            if path.is_file() and path != self.contract
        }

    def children(self) -> list[str]:
        """The command lines of processes that work for this state directory or contract."""
        marks = (str(self.directory), str(self.contract))
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if any(mark in line for mark in marks):
                found.append(line)
        return found
