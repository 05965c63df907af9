"""One chunk: marked, read under a snapshot, written, its spool replayed, done.

Rows, replay and the state "done" are one transaction of the writing side: a worker that dies leaves nothing half.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection, IsolationLevel, errors, sql

from alih.errors import NeedsOperator, Retryable
from alih.faults import Point, reached
from alih.model.change import Lsn
from alih.model.chunk import Done, Snapshot
from alih.model.projection import Projection
from alih.model.stitching import Chunk, EntityChunks
from alih.postgres import chunks, positions
from alih.postgres.collisions import CollisionError
from alih.postgres.failures import named
from alih.postgres.forwarding import forward
from alih.postgres.replaying import ReplayAnewError, SpoolReplay
from alih.postgres.segments import SegmentWriter
from alih.postgres.selecting import selection
from alih.postgres.session import only_row
from alih.postgres.sql import query
from alih.postgres.statements import columns, table
from alih.postgres.throttle import Pace

Connection = AsyncConnection[tuple[Any, ...]]

_ATTEMPTS = 6
_ASK_AGAIN_S = 0.05
_SNAPSHOTS = 1200  # a minute of asking
_LOCK_LAP_MS = 200


class _InTheWayError(Exception):
    """The follower waits for a unique value among the rows copied here, while the copy waits for the follower."""


_COLLISIONS = (
    CollisionError,
    errors.UniqueViolation,
    errors.ExclusionViolation,
    errors.DeadlockDetected,
    _InTheWayError,
    ReplayAnewError,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What a worker copies with. `reads` and `writes` are connections of its own, not in autocommit.

    `cut` gives a place in the log behind all that the reading side has by now, `position` that to which the follower
    has applied it; `caught_up` returns when it has come to a new cut."""

    reads: Connection
    writes: Connection
    projections: Sequence[Projection]
    cut: Callable[[], Awaitable[Lsn]]
    position: Callable[[], Awaitable[Lsn]]
    caught_up: Callable[[], Awaitable[None]]
    paced: Pace | None = None


@dataclass(frozen=True, slots=True)
class _Taken:
    """A snapshot, and a place in the log behind every transaction that it sees."""

    text: str
    settled: Lsn


class ChunkCopy:
    """Copies one chunk of the entity that `projection` describes, `of_entity` being all its chunks. `writer` is
    prepared, and its session in replica role."""

    def __init__(
        self, chunk: Chunk, of_entity: EntityChunks, projection: Projection, desk: Desk, writer: SegmentWriter
    ) -> None:
        self._chunk = chunk
        self._of_entity = of_entity
        self._projection = projection
        self._direction = projection.direction
        self._reads, self._writes = desk.reads, desk.writes
        self._caught_up, self._paced = desk.caught_up, desk.paced
        self._writer = writer

    async def copy(self) -> bool:
        """Copy, replay, mark done; false if it was done already. Safe to repeat, and to be killed in.

        Where rows can hand a unique value on to each other, from one chunk to another, the rows are written once the
        follower has applied all that the snapshot saw; if they still collide with what it applies meanwhile, again,
        while it stands still. Raises NeedsOperator if a row that alih did not write stands in the way.
        """
        with named(f"copying {self._projection.entity}"):
            shared = len(self._of_entity) > 1 and await self._hands_values_on()
            for number in range(_ATTEMPTS):
                try:
                    return await self._attempt(shared=shared, alone=number > 0)
                except _COLLISIONS as collision:
                    await self._reads.rollback()
                    await self._writes.rollback()
                    if number + 1 == _ATTEMPTS or not (shared or isinstance(collision, ReplayAnewError)):
                        raise
        raise AssertionError("the last attempt returns or raises")

    async def _hands_values_on(self) -> bool:
        key = [assignment.column for assignment in self._projection.write_key]
        at = {"schema": self._projection.writes.schema, "name": self._projection.writes.name, "key": key}
        (found,) = await only_row(await self._writes.execute(query("other_unique"), at))
        return bool(found)

    async def _attempt(self, *, shared: bool, alone: bool) -> bool:
        """`shared`: wait for the follower before writing. `alone`: write while it stands still."""
        attempt = await self._mark_spooling()
        if attempt is None:
            return False
        taken = await self._take_snapshot()
        if shared:
            await self._caught_up()
        await positions.mark_own(self._writes)
        if alone:
            await self._lock(attempt, shared=False)
        count = await self._forward_rows()
        reached(Point.ROWS_COPIED)
        seen = self._of_entity.as_seen_by(self._chunk.id, Done(Snapshot.parse(taken.text)))
        replay = SpoolReplay(self._writes, self._writer, self._projection.entity, self._chunk, seen)
        if not alone:
            await replay.ahead(await self._position())
            await self._lock(attempt, shared=shared)
        await replay.rest(await self._position())
        await self._mark_done(taken, count, replay)
        return True

    async def _mark_spooling(self) -> int | None:
        await chunks.hold_stream(self._writes, self._direction)
        cursor = await self._writes.execute(
            "UPDATE alih.chunk SET state = 'spooling', attempt = attempt + 1, begun_at = clock_timestamp()"
            " WHERE id = %s AND state <> 'done' RETURNING attempt",
            (self._chunk.id,),
        )
        row = await cursor.fetchone()
        if row is not None:
            await chunks.change_version(self._writes, self._direction)
        await self._writes.commit()
        reached(Point.CHUNK_MARKED)
        return row[0] if row else None

    async def _take_snapshot(self) -> _Taken:
        """Begin the reading transaction with a snapshot that sees every change dropped before the mark: a commit
        can be streamed before it is visible, as long as a synchronous standby is away."""
        await self._reads.set_isolation_level(IsolationLevel.REPEATABLE_READ)
        await self._reads.set_read_only(True)
        for _ in range(_SNAPSHOTS):
            # Asked before the snapshot is taken: the follower forgets what has become visible, which an older
            # snapshot need not have seen.
            (dropped,) = await self._one(self._writes, _DROPPED, (self._direction.value,))
            await self._writes.rollback()
            snapshot, settled = await self._one(self._reads, _SNAPSHOT)
            if settled is None:
                raise NeedsOperator(
                    "the reading side is a standby: its snapshot does not list open transactions",
                    remedy="give the DSN of the primary",
                )
            if Snapshot.parse(snapshot).sees_all(dropped):
                reached(Point.SNAPSHOT_TAKEN)
                return _Taken(snapshot, Lsn.parse(settled))
            await self._reads.rollback()
            await asyncio.sleep(_ASK_AGAIN_S)  # a standby's answer is nothing that can be awaited from here
        raise Retryable(
            f"{self._projection.entity}: transactions that are committed do not become visible on the reading side",
            remedy="a synchronous standby is away (see pg_stat_replication); bring it back or drop it, then run again",
        )

    async def _forward_rows(self) -> int:
        target = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(
            table(self._projection), columns([a.column for a in self._projection.assignments])
        )
        source = await selection(self._reads, self._projection, self._chunk, self._of_entity.ordered_by)
        count = await forward(self._reads, self._writes, source, target, self._paced)
        await self._reads.rollback()
        return count

    async def _lock(self, attempt: int, *, shared: bool) -> None:
        """Hold the stream, so that the follower stands still; the chunk must still be this attempt's.

        The wait has laps: a follower that waits for us meanwhile would be ended by the server as one of a deadlock,
        and it is the copy that can begin again at no cost."""
        while not await self._held():
            if shared and (await self._one(self._writes, _IN_THE_WAY))[0]:
                raise _InTheWayError
        row = await self._one(self._writes, "SELECT attempt, state FROM alih.chunk WHERE id = %s", (self._chunk.id,))
        if row != (attempt, "spooling"):
            raise Retryable(
                f"{self._projection.entity}: another worker has taken this chunk over", remedy="nothing to do here"
            )

    async def _held(self) -> bool:
        try:
            async with self._writes.transaction():
                await self._writes.execute(f"SET LOCAL lock_timeout = {_LOCK_LAP_MS}")
                await chunks.hold_stream(self._writes, self._direction)
                await self._writes.execute("SET LOCAL lock_timeout TO DEFAULT")
        except errors.LockNotAvailable:
            return False
        return True

    async def _mark_done(self, taken: _Taken, count: int, replay: SpoolReplay) -> None:
        await self._writes.execute("DELETE FROM alih.spool WHERE chunk = %s", (self._chunk.id,))
        await self._writes.execute(
            "UPDATE alih.chunk SET state = 'done', snapshot = %s, settled = %s, row_count = %s,"
            " done_at = clock_timestamp() WHERE id = %s",
            (taken.text, str(taken.settled), count, self._chunk.id),
        )
        for key in replay.reread:
            await chunks.add_row(self._writes, self._direction, self._projection.entity, key)
        await chunks.change_version(self._writes, self._direction, sorted(replay.dropped))
        reached(Point.SPOOL_REPLAYED)
        await self._writes.commit()
        reached(Point.CHUNK_DONE)

    async def _position(self) -> Lsn:
        return Lsn.parse((await self._one(self._writes, _POSITION, (self._direction.value,)))[0])

    async def _one(self, connection: Connection, statement: str, parameters: tuple[Any, ...] = ()) -> tuple[Any, ...]:
        return await only_row(await connection.execute(statement, parameters))


_POSITION = "SELECT position::text FROM alih.stream WHERE direction = %s"
_DROPPED = "SELECT dropped FROM alih.stream WHERE direction = %s"
_SNAPSHOT = (
    "SELECT pg_current_snapshot()::text, CASE WHEN NOT pg_is_in_recovery() THEN pg_current_wal_insert_lsn()::text END"
)
_IN_THE_WAY = (
    "SELECT EXISTS (SELECT FROM pg_locks l WHERE NOT l.granted AND pg_backend_pid() = ANY (pg_blocking_pids(l.pid)))"
)
