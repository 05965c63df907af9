"""How fast alih applies a log, beside the server's own logical replication.

Both follow the same log into equal tables on the same server, each from a slot of its own. A workload is written while
nobody follows; then one of them is let go at a time, and its time runs from the moment at which its slot is in use
until the workload's last transaction can be seen in its table. So neither pays for starting a process.

The peer runs as it does by default, without waiting for the disk at each commit; alih does wait. The peer's figures
are better that way than if it waited too.
"""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import LiteralString

from alih.bench import pairs, tables, workloads
from alih.bench.pairs import Ratio
from alih.bench.world import World, servers, world
from alih.model.projection import Direction
from alih.model.side import Side
from alih.postgres.installation import StreamName
from alih.postgres.session import Connection, connect, only_row

KINDS = ("inserts", "updates", "deletes", "small transactions", "hot rows")

_PEER = "bench_peer"
_LOOK_EVERY_S = 0.002
_WITHIN_S = 300.0
_COMMITS = 200  # of the measurement at low load


@dataclass(frozen=True, slots=True)
class _Follower:
    """One of the two: how to let it follow, its slot, and where its rows arrive."""

    following: Callable[[], AbstractAsyncContextManager[object]]
    slot: str
    target: Connection


@dataclass(frozen=True, slots=True)
class _Race:
    place: World
    source: Connection
    followers: Mapping[str, _Follower]
    marks: Iterator[int]

    async def kind(self, kind: str, rounds: int) -> Mapping[str, Sequence[float]]:
        """Seconds of either in each round; the first of a round to come writes what both then follow."""
        written: dict[int, int] = {}
        turns = {name: count() for name in self.followers}

        async def run(name: str) -> float:
            number = next(turns[name])
            if number not in written:
                await self.source.execute("SET synchronous_commit = off")
                await _set(self.source, "bench.rows", str(self.place.rows))
                await _set(self.source, "bench.round", str(number))
                await self.source.execute(workloads.statement(kind))
                await self.source.execute("RESET synchronous_commit")
                written[number] = await self._mark()
            return await self._seconds(self.followers[name], written[number])

        return await pairs.rounds({name: partial(run, name) for name in self.followers}, rounds)

    async def latencies(self, name: str) -> Sequence[float]:
        """Seconds from commit to commit of small transactions, each made when the one before has arrived."""
        follower = self.followers[name]
        async with follower.following():
            await _until(follower.target, _SEEN, await self._mark())
            return [await self._latency(follower.target) for _ in range(_COMMITS)]

    async def _latency(self, target: Connection) -> float:
        mark = await self._insert()
        begun = time.perf_counter()
        await _until(target, _SEEN, mark, every_s=0)
        return time.perf_counter() - begun

    async def _mark(self) -> int:
        """End what was written with an order that can be looked for, and have both servers pay their debts."""
        mark = await self._insert()
        await self.place.checkpoint()
        return mark

    async def _insert(self) -> int:
        mark = next(self.marks)
        await self.source.execute("INSERT INTO orders VALUES (%s, 0, 0, 'MARK', 0, NULL, 0)", (-mark,))
        return mark

    async def _seconds(self, follower: _Follower, mark: int) -> float:
        async with follower.following():
            await _until(self.source, _STREAMED, follower.slot)
            begun = time.perf_counter()
            await _until(follower.target, _SEEN, mark)
            seconds = time.perf_counter() - begun
            # Both have all that is in the log by now; unless it is confirmed, the next run would read it again.
            await self.source.execute("SELECT pg_log_standby_snapshot()")
            await _until(follower.target, _SEEN, await self._insert())
        await _until(self.source, _IDLE, follower.slot)
        return seconds


_STREAMED: LiteralString = "SELECT active FROM pg_replication_slots WHERE slot_name = %s"
_IDLE: LiteralString = "SELECT NOT active FROM pg_replication_slots WHERE slot_name = %s"
_SEEN: LiteralString = "SELECT count(*) = 1 FROM orders WHERE order_id = -%s"


async def bench(rounds: int = pairs.LEAST, rows: int = 100_000, version: int = 18) -> dict[str, object]:
    """Ratio and changes a second of each kind, and milliseconds from commit to commit at low load; `rows` is the
    number of changes, a multiple of 1000. There is no limit to compare with: nothing raw follows a log."""
    async with servers(version) as both, world(both, "same", rows) as place, _two_followers(place) as race:
        seconds = {kind: await race.kind(kind, rounds) for kind in KINDS}
        latency = {name: _milliseconds(await race.latencies(name)) for name in race.followers}
        versions = await both.versions()
    ratios = {kind: pairs.speed(of["alih"], of["native"]) for kind, of in seconds.items()}
    least = min(ratios.values(), key=lambda ratio: ratio.median)
    return {
        "rows": rows,
        "seconds": round(sum(statistics.median(of["alih"]) for of in seconds.values()), 3),
        "ratio_to_limit": None,
        "ratio_to_peer": round(least.median, 3),
        "interval": least.document()["interval"],
        "kinds": {kind: _kind(ratios[kind], of, rows) for kind, of in seconds.items()},
        "latency_ms": latency,
        "rounds": rounds,
        "versions": versions,
    }


def _kind(ratio: Ratio, seconds: Mapping[str, Sequence[float]], rows: int) -> dict[str, object]:
    rates = {f"{name}_per_s": round(rows / statistics.median(of)) for name, of in seconds.items()}
    return ratio.document() | rates


def _milliseconds(seconds: Sequence[float]) -> dict[str, float]:
    cuts = statistics.quantiles(seconds, n=100)
    return {"p50": round(cuts[49] * 1000, 2), "p99": round(cuts[98] * 1000, 2)}


@asynccontextmanager
async def _two_followers(place: World) -> AsyncIterator[_Race]:
    """alih, set up and copied, and a subscription that is not enabled yet, to a database of its own."""
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(place.installed())
        async with place.following():
            await place.migration.engine(Direction.FORWARD).copy()
        source = await stack.enter_async_context(await place.migration.connect(Side.SOURCE))
        target = await stack.enter_async_context(await place.migration.connect(Side.TARGET))
        peer = await stack.enter_async_context(_peer(place, source))
        slot = str(StreamName(place.migration.contract.name, Direction.FORWARD))
        followers = {
            "alih": _Follower(place.following, slot, target),
            "native": _Follower(partial(_enabled, peer), _PEER, peer),
        }
        yield _Race(place, source, followers, count(1))


@asynccontextmanager
async def _peer(place: World, source: Connection) -> AsyncIterator[Connection]:
    """A database with the same rows and a subscription to them, from the same log on."""
    cluster = place.servers.target
    await cluster.create_database(_PEER)
    async with await connect(cluster.dsn(_PEER), "the database of the peer") as peer:
        await peer.execute(tables.statement(place.kind, "target"))
        await peer.execute(tables.statement(place.kind, "rows"), {"first": 1, "last": place.rows})
        await source.execute(f"CREATE PUBLICATION {_PEER} FOR TABLE orders")
        await source.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (_PEER,))
        await _set(peer, "bench.dsn", place.dsn(Side.SOURCE))
        await peer.execute(_SUBSCRIPTION)
        try:
            yield peer
        finally:
            await peer.execute(f"ALTER SUBSCRIPTION {_PEER} SET (slot_name = NONE)")
            await peer.execute(f"DROP SUBSCRIPTION {_PEER}")
            await source.execute("SELECT pg_drop_replication_slot(%s)", (_PEER,))


_SUBSCRIPTION = """
DO $$
BEGIN
    EXECUTE format('CREATE SUBSCRIPTION bench_peer CONNECTION %L PUBLICATION bench_peer WITH (enabled = false,'
        ' create_slot = false, copy_data = false, binary = true, slot_name = bench_peer)',
        current_setting('bench.dsn'));
END $$
"""


async def _set(connection: Connection, name: str, value: str) -> None:
    await connection.execute("SELECT set_config(%s, %s, false)", (name, value))


@asynccontextmanager
async def _enabled(peer: Connection) -> AsyncIterator[None]:
    await peer.execute(f"ALTER SUBSCRIPTION {_PEER} ENABLE")
    yield
    await peer.execute(f"ALTER SUBSCRIPTION {_PEER} DISABLE")


async def _until(connection: Connection, query: LiteralString, *values: object, every_s: float = _LOOK_EVERY_S) -> None:
    """Ask until the answer is true. Raises TimeoutError after a time in which every run should be done."""
    async with asyncio.timeout(_WITHIN_S):
        while (await only_row(await connection.execute(query, values))) != (True,):  # noqa: ASYNC110 - of a server
            await asyncio.sleep(every_s)
