"""How fast alih copies a table through its mapping, beside what the two databases can do at most.

The limit is the better of one and two `psql | psql` pipes, binary COPY on both ends, whose SELECT holds the same
mapping expressions and whose target is the same table with the same index: what is left is what alih adds. The target
is emptied and everything written out (CHECKPOINT) before each run, outside of the measured time.
"""

import asyncio
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from alih.bench import pairs
from alih.bench.world import Servers, World, servers, world
from alih.errors import NeedsOperator
from alih.model.chunk import NotStarted
from alih.model.projection import Projection
from alih.model.side import Side
from alih.model.stitching import Chunk
from alih.postgres.embedded import binary
from alih.postgres.selecting import selection
from alih.postgres.session import only_row
from alih.postgres.statements import columns, table

KINDS: Mapping[str, tuple[str, int]] = {
    "mapped": ("mapped", 1),
    "uuid key": ("uuid", 1),
    "text key": ("text", 1),
    "wide rows": ("wide", 15),
}
"""Kind → the directory of its tables, and how many orders weigh as much as one of its rows."""

WORKERS = 2


@dataclass(frozen=True, slots=True)
class _Race:
    place: World
    memory_bytes: list[int] = field(default_factory=list)

    async def alih(self) -> float:
        """Seconds of the copy as `alih run` makes it, a follower beside it, in a process that is measured."""
        await self._clear()
        async with self.place.installed(), self.place.following():
            argv = [sys.executable, "-m", "alih.bench.copying", str(self.place.contract), str(WORKERS)]
            measured: dict[str, float] = json.loads(await _output(argv, self.place.environment.variables))
            await self._judge()
        self.memory_bytes.append(int(measured["memory_bytes"]))
        return measured["seconds"]

    async def pipes(self, number: int) -> float:
        """Seconds of one or two pipes at once, each for its part of the keys, from their start to their end."""
        await self._clear()
        selections = await self._selections(number)
        begun = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for text in selections:
                tasks.create_task(self._pipe(text))
        seconds = time.perf_counter() - begun
        await self._judge()
        return seconds

    async def pgcopydb(self) -> float:
        """Seconds of `pgcopydb copy table-data` with as many jobs; it carries no mapping, so the tables are equal."""
        await self._clear()
        dsns = ["--source", self.place.dsn(Side.SOURCE), "--target", self.place.dsn(Side.TARGET)]
        jobs = ["--table-jobs", str(WORKERS), "--not-consistent", "--restart", "--dir", str(self._scratch())]
        begun = time.perf_counter()
        await _output(["pgcopydb", "copy", "table-data", *dsns, *jobs], self.place.environment.variables)
        seconds = time.perf_counter() - begun
        await self._judge()
        return seconds

    def _scratch(self) -> Path:
        return self.place.servers.directory / "pgcopydb"

    @property
    def _projection(self) -> Projection:
        (projection,) = self.place.migration.projections.forward
        return projection

    async def _clear(self) -> None:
        async with await self.place.migration.connect(Side.TARGET) as target:
            await target.execute(f"TRUNCATE {table(self._projection).as_string()}".encode())
        await self.place.checkpoint()

    async def _judge(self) -> None:
        """A run that did not carry every row measures nothing."""
        async with await self.place.migration.connect(Side.TARGET) as target:
            text = f"SELECT count(*) FROM {table(self._projection).as_string()}"  # noqa: S608 - an identifier, quoted
            (rows,) = await only_row(await target.execute(text.encode()))
        if rows != self.place.rows:
            raise NeedsOperator(f"{rows} of {self.place.rows} rows arrived", remedy="report this with the versions")

    async def _selections(self, number: int) -> Sequence[str]:
        """The SELECTs of `number` pipes, each with its part of the keys."""
        (key,) = self._projection.read_key
        async with await self.place.migration.connect(Side.SOURCE) as source:
            bound = await only_row(await source.execute(_MIDDLE, (self.place.rows // 2,)))
            ranges = [(None, None)] if number == 1 else [(None, bound), (bound, None)]
            chunks = [Chunk(id=0, state=NotStarted(), lower=lower, upper=upper) for lower, upper in ranges]
            return [(await selection(source, self._projection, c, [key.name])).as_string(source) for c in chunks]

    async def _pipe(self, text: str) -> None:
        names = columns([a.column for a in self._projection.assignments]).as_string()
        into = f"COPY {table(self._projection).as_string()} ({names}) FROM STDIN (FORMAT binary)"
        psql = [str(binary("psql", self.place.servers.source.version)), "-X", "-q", "-v", "ON_ERROR_STOP=1"]
        reading, writing = os.pipe()
        with closing(os.fdopen(reading)) as output, closing(os.fdopen(writing)) as entry:
            sending = await asyncio.create_subprocess_exec(
                *psql, "-d", self.place.dsn(Side.SOURCE), "-c", text, stdout=entry
            )
            storing = await asyncio.create_subprocess_exec(
                *psql, "-d", self.place.dsn(Side.TARGET), "-c", into, stdin=output, stdout=asyncio.subprocess.DEVNULL
            )
        for end in (sending, storing):
            if code := await end.wait():
                raise NeedsOperator(f"a pipe of psql ended with {code}", remedy="see what it said above")


_MIDDLE = "SELECT order_id::text FROM orders ORDER BY order_id OFFSET %s LIMIT 1"


async def _output(argv: Sequence[str], variables: Mapping[str, str]) -> bytes:
    process = await asyncio.create_subprocess_exec(*argv, env=variables, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    if process.returncode:
        raise NeedsOperator(f"{Path(argv[0]).name} ended with {process.returncode}", remedy="see what it said above")
    return said


async def bench(rounds: int = pairs.LEAST, rows: int = 2_000_000, version: int = 18) -> dict[str, Any]:
    """The figures of each kind; `rows` orders, or as many bytes of wider rows. `ratio_to_limit` is the least of the
    kinds' medians, `ratio_to_peer` the one to pgcopydb, None where it is not installed."""
    async with servers(version) as both:
        kinds = {name: await kind(both, name, rows, rounds) for name in KINDS}
        peer = await _peer(both, rows, rounds) if shutil.which("pgcopydb") else None
        versions = await both.versions()
    return {"rows": rows} | summary(kinds) | {"ratio_to_peer": peer, "rounds": rounds, "versions": versions}


def summary(kinds: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The figures of all kinds as one: the ratio is that of the worst."""
    least = min(kinds.values(), key=lambda of: float(of["ratio"]))
    return {
        "seconds": round(sum(of["seconds"] for of in kinds.values()), 3),
        "ratio_to_limit": least["ratio"],
        "interval": least["interval"],
        "kinds": kinds,
        "memory_mb": max(of["memory_mb"] for of in kinds.values()),
        "workers": WORKERS,
    }


async def kind(both: Servers, name: str, rows: int, rounds: int) -> dict[str, Any]:
    """The figures of one kind."""
    directory, weight = KINDS[name]
    async with world(both, directory, rows // weight) as place:
        race = _Race(place)
        runs: Mapping[str, pairs.Run] = {
            "alih": race.alih,
            "one pipe": partial(race.pipes, 1),
            "two pipes": partial(race.pipes, 2),
        }
        seconds = await pairs.rounds(runs, rounds)
        async with await place.migration.connect(Side.SOURCE) as source:
            (size,) = await only_row(await source.execute("SELECT pg_table_size('orders')"))
    medians = {name: statistics.median(of) for name, of in seconds.items()}
    # the limit is the way of piping that is better by its median, not the better run of each round: that would be luck
    limit = min(("one pipe", "two pipes"), key=lambda name: medians[name])
    return pairs.speed(seconds["alih"], seconds[limit]).document() | {
        "rows": place.rows,
        "seconds": round(medians["alih"], 3),
        "limit_seconds": round(medians[limit], 3),
        "limit": limit,
        "mb_per_s": round(size / 1e6 / medians["alih"], 1),
        "memory_mb": round(max(race.memory_bytes) / 1e6, 1),
    }


async def _peer(both: Servers, rows: int, rounds: int) -> dict[str, object]:
    async with world(both, "same", rows) as place:
        race = _Race(place)
        seconds = await pairs.rounds({"alih": race.alih, "pgcopydb": race.pgcopydb}, rounds)
    return pairs.speed(seconds["alih"], seconds["pgcopydb"]).document()
