"""Processes of `alih` in which a fault is planted, started in milliseconds (see `tests.support.faulty`)."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.faulty import STRIKES
from tests.support.waiting import until

_PROGRAM = Path(__file__).with_name("faulty.py")
_ENDED_WITHIN_S = 60.0


@dataclass(eq=False, slots=True)
class Actor:
    """One process of alih; `code` is set when it has ended, negative for a signal."""

    pid: int
    log: Path
    code: int | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def send(self, number: signal.Signals) -> None:
        if self.code is None:
            os.kill(self.pid, number)

    @property
    def stands_still(self) -> bool:
        """Whether a planted fault has stopped it."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text(encoding="utf-8")
        except FileNotFoundError:
            return False
        return stat.rpartition(")")[2].split()[0] == "T"

    async def end(self, within_s: float = _ENDED_WITHIN_S) -> int:
        """Wait until it has ended by itself."""
        async with asyncio.timeout(within_s):
            await self.ended.wait()
        assert self.code is not None
        return self.code

    @property
    def struck(self) -> bool:
        return STRIKES in self.said()

    async def kill(self) -> None:
        """As by kill -9."""
        self.send(signal.SIGKILL)
        await self.end()

    def said(self) -> str:
        return self.log.read_text(encoding="utf-8") if self.log.exists() else ""


class Nursery:
    """Starts processes in `directory` with `environment`."""

    def __init__(self, process: asyncio.subprocess.Process, directory: Path, environment: Mapping[str, str]) -> None:
        self._process = process
        self._directory = directory
        self._environment = dict(environment)
        self._actors: dict[int, Actor] = {}
        self._born: asyncio.Queue[int] = asyncio.Queue()
        self._count = 0

    async def start(self, *argv: str, fault: Sequence[str] | None = None) -> Actor:
        assert self._process.stdin is not None
        self._count += 1
        log = self._directory / f"{self._count}-{argv[0]}.log"
        order: dict[str, Any] = {"argv": argv, "fault": fault, "env": self._environment, "log": str(log)}
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        pid = await self._born.get()
        actor = self._actors.setdefault(pid, Actor(pid, log))
        actor.log = log
        return actor

    async def listen(self) -> None:
        """Hear of births and deaths until the nursery ends."""
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            told = json.loads(line)
            if "code" in told:
                actor = self._actors[told["pid"]]
                actor.code = told["code"]
                actor.ended.set()
            else:
                self._actors[told["pid"]] = Actor(told["pid"], Path())
                self._born.put_nowait(told["pid"])

    async def close(self) -> None:
        """Kill what still runs."""
        for actor in self._actors.values():
            actor.send(signal.SIGKILL)
        await until(lambda: all(actor.ended.is_set() for actor in self._actors.values()))


@asynccontextmanager
async def nursery(directory: Path, environment: Mapping[str, str]) -> AsyncIterator[Nursery]:
    """Ready when the code has been read, which takes a second; no process outlives the block."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", str(_PROGRAM)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env=dict(environment),
    )
    made = Nursery(process, directory, environment)
    async with asyncio.TaskGroup() as tasks:
        listening = tasks.create_task(made.listen())
        try:
            yield made
        finally:
            await made.close()
            if process.stdin is not None:
                process.stdin.close()
            await process.wait()
            listening.cancel()
