"""How fast alih compares two equal tables, beside a plain scan and beside reladiff.

The limit is one sequential scan that adds up the same hash of the same rows, on the slower of the two servers: no
comparison can do with less. The peer is reladiff where its command is on the PATH (https://pypi.org/project/reladiff/),
with its defaults and all columns; the time that it takes to start is measured beside it and taken off.
"""

import asyncio
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from alih.bench import pairs
from alih.bench.pairs import Ratio, Run
from alih.bench.world import World, servers, world
from alih.errors import Corrupt, NeedsOperator
from alih.model.projection import Direction
from alih.model.side import Side
from alih.postgres.comparison import HashedSide, reading_side, writing_side
from alih.postgres.session import parts
from alih.postgres.verifier import Verifier

KINDS: Mapping[str, str] = {"same": "same tables", "mapped": "through a mapping"}
"""Tables → the kind's name in the answer; reladiff knows no mapping, so it takes part in the first."""

_PEER = "reladiff"


@dataclass(frozen=True, slots=True)
class _Race:
    place: World
    verifier: Verifier

    async def alih(self) -> float:
        begun = time.perf_counter()
        verdict = await self.verifier.everything()
        seconds = time.perf_counter() - begun
        if not verdict.clean or verdict.rows != self.place.rows:
            raise Corrupt("the tables of the bench are not equal", remedy="report this with the bench's arguments")
        return seconds

    async def scan(self) -> float:
        (projection,) = self.place.migration.projections.forward
        return max(
            await self._scan(Side.SOURCE, reading_side(projection)),
            await self._scan(Side.TARGET, writing_side(projection)),
        )

    async def _scan(self, side: Side, hashed: HashedSide) -> float:
        async with await self.place.migration.connect(side) as connection:
            await connection.execute("SET jit = off")
            begun = time.perf_counter()
            await connection.execute(hashed.total(None))
            return time.perf_counter() - begun

    async def reladiff(self) -> float:
        (projection,) = self.place.migration.projections.forward
        keys = [word for column in projection.read_key for word in ("-k", column.name)]
        started, _ = await _timed([_PEER, "--version"])
        seconds, told = await _timed([_PEER, "--conf", str(self._configuration()), "--run", "verify", "--stats", *keys])
        if (
            f"{self.place.rows} rows in table A" not in told or "0 rows updated" not in told
        ):  # it ends with 0 in any case
            raise NeedsOperator(f"{_PEER} did not compare the tables", remedy="run it by hand, or take it off PATH")
        return seconds - started

    def _configuration(self) -> Path:
        """What reladiff is to compare: a DSN with a socket's directory does not fit into its URLs."""
        (projection,) = self.place.migration.projections.forward
        lines: list[str] = []
        for number, side in enumerate(Side, start=1):
            known = parts(self.place.dsn(side))
            lines += [f"[database.{side}]", 'driver = "postgresql"', f'host = "{known["host"]}"']
            lines += [f"port = {known['port']}", f'database = "{known["dbname"]}"', f'user = "{known["user"]}"']
            lines += ['password = ""', f"[run.verify.{number}]", f'database = "{side}"']
            lines += [f'table = "{projection.reads.name if side is Side.SOURCE else projection.writes.name}"']
        lines += ["[run.verify]", 'columns = ["%"]']
        file = self.place.servers.directory / "reladiff.toml"
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return file


async def _timed(argv: Sequence[str]) -> tuple[float, str]:
    """Seconds of a command, and what it told."""
    begun = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    told, _ = await process.communicate()
    return time.perf_counter() - begun, told.decode()


async def bench(rounds: int = pairs.LEAST, rows: int = 2_000_000, version: int = 18) -> dict[str, object]:
    """Both ratios of each kind, the seconds of a run, and what took part. `ratio_to_peer` is None without reladiff."""
    kinds: dict[str, _Kind] = {}
    async with servers(version) as both:
        for tables, name in KINDS.items():
            async with world(both, tables, rows) as place:
                kinds[name] = await _kind(place, rounds, peer=tables == "same" and shutil.which(_PEER) is not None)
        versions = await both.versions()
    to_limit = min((each.to_limit for each in kinds.values()), key=lambda ratio: ratio.median)
    to_peer = next((each.to_peer for each in kinds.values() if each.to_peer is not None), None)
    return {
        "rows": rows,
        "rounds": rounds,
        "seconds": max(each.seconds for each in kinds.values()),
        "ratio_to_limit": to_limit.document()["ratio"],
        "ratio_to_peer": to_peer.document()["ratio"] if to_peer else None,
        "interval": (to_peer or to_limit).document()["interval"],
        "kinds": {name: each.document() for name, each in kinds.items()},
        "versions": versions,
    }


@dataclass(frozen=True, slots=True)
class _Kind:
    seconds: float
    to_limit: Ratio
    to_peer: Ratio | None

    def document(self) -> dict[str, object]:
        to_peer = self.to_peer.document() if self.to_peer else None
        return {"seconds": self.seconds, "to_limit": self.to_limit.document(), "to_peer": to_peer}


async def _kind(place: World, rounds: int, *, peer: bool) -> _Kind:
    engine = place.migration.engine(Direction.FORWARD)
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(place.installed())
        await stack.enter_async_context(place.following())
        await engine.copy()
        async with await place.migration.connect(Side.TARGET) as target:
            await target.execute("VACUUM (ANALYZE)")
        race = _Race(place, await stack.enter_async_context(engine.verifier()))
        runs: dict[str, Run] = {"alih": race.alih, "scan": race.scan}
        if peer:
            runs["peer"] = race.reladiff
        seconds = await pairs.rounds(runs, rounds)
    return _Kind(
        round(statistics.median(seconds["alih"]), 3),
        pairs.speed(seconds["alih"], seconds["scan"]),
        pairs.speed(seconds["alih"], seconds["peer"]) if peer else None,
    )
