"""The chunk rows and the spool in the writing side's database, and the worker that copies a chunk.

Today a chunk is a whole table. Its row changes state under FOR UPDATE, the follower reads it FOR SHARE, so each
batch of the follower stands wholly before or wholly after a change of state.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from psycopg import AsyncConnection, IsolationLevel, sql

from alih.errors import Corrupt, NeedsOperator, Retryable
from alih.model.change import Delete, Insert, Lsn, Update
from alih.model.chunk import ChunkState, Done, NotStarted, Snapshot, Spooling
from alih.model.compaction import Segment, moved, moves_key
from alih.model.projection import Direction, Projection
from alih.postgres import positions
from alih.postgres.failures import named
from alih.postgres.pgoutput import decode
from alih.postgres.segments import SegmentWriter
from alih.postgres.session import only_row
from alih.postgres.statements import columns, table, trusted

Connection = AsyncConnection[tuple[Any, ...]]

_REPLAY = 20_000  # changes of the spool folded at a time
_ASK_AGAIN_S = 0.05
_SNAPSHOTS = 1200  # a minute of asking


async def states(connection: Connection, direction: Direction) -> Mapping[str, ChunkState]:
    """Every chunk's state, locked against a worker until this transaction ends."""
    cursor = await connection.execute(
        "SELECT entity, state, attempt, snapshot FROM alih.chunk WHERE direction = %s FOR SHARE", (direction.value,)
    )
    return {entity: _state(state, attempt, snapshot) for entity, state, attempt, snapshot in await cursor.fetchall()}


def _state(state: str, attempt: int, snapshot: str | None) -> ChunkState:
    match state, snapshot:
        case "not started", None:
            return NotStarted()
        case "spooling", None:
            return Spooling(attempt)
        case "done", str():
            return Done(Snapshot.parse(snapshot))
        case _:
            raise Corrupt(
                f"a chunk is {state!r}, which is no state of a chunk", remedy="alih clean, then start the copy anew"
            )


async def spool(connection: Connection, direction: Direction, changes: Sequence[tuple[str, int, bytes]]) -> None:
    """Keep changes aside, in order, in the transaction that moves the position."""
    async with connection.cursor().copy(
        "COPY alih.spool (direction, entity, xid, change) FROM STDIN (FORMAT binary)"
    ) as copy:
        copy.set_types(["text", "text", "int8", "bytea"])
        for entity, xid, change in changes:
            await copy.write_row((direction.value, entity, xid, change))


class ChunkCopy:
    """Copies one chunk: `reads` and `writes` are connections of its own, not in autocommit."""

    def __init__(
        self, projection: Projection, projections: Sequence[Projection], reads: Connection, writes: Connection
    ):
        self._projection = projection
        self._reads = reads
        self._writes = writes
        self._writer = SegmentWriter(writes, projections)
        self._scope = (projection.direction.value, projection.entity)

    async def copy(self) -> int:
        """Copy, replay the spool, mark done: one transaction of the writing side, so a crash leaves nothing half.
        Returns the number of rows copied. Safe to repeat; a finished chunk is left as it is."""
        with named(f"copying {self._projection.entity}"):
            return await self._copy()

    async def _copy(self) -> int:
        attempt = await self._mark_spooling()
        if attempt is None:
            return 0
        await self._writes.execute("SET session_replication_role = replica")
        await self._writer.prepare()
        await self._writes.commit()
        await positions.mark_own(self._writes)
        snapshot = await self._take_snapshot()
        count = await self._forward_rows()
        await self._lock(attempt)
        await self._replay(snapshot)
        await self._mark_done(snapshot, count)
        return count

    async def _mark_spooling(self) -> int | None:
        cursor = await self._writes.execute(
            "UPDATE alih.chunk SET state = 'spooling', attempt = attempt + 1"
            " WHERE direction = %s AND entity = %s AND state <> 'done' RETURNING attempt",
            self._scope,
        )
        row = await cursor.fetchone()
        await self._writes.commit()
        return row[0] if row else None

    async def _take_snapshot(self) -> str:
        """Begin the reading transaction with a snapshot that sees every change dropped before the mark: a commit
        can be streamed before it is visible, as long as a synchronous standby is away."""
        await self._reads.set_isolation_level(IsolationLevel.REPEATABLE_READ)
        await self._reads.set_read_only(True)
        for _ in range(_SNAPSHOTS):
            snapshot, standby = await _one(self._reads, "SELECT pg_current_snapshot()::text, pg_is_in_recovery()")
            if standby:
                raise NeedsOperator(
                    "the reading side is a standby: its snapshot does not list open transactions",
                    remedy="give the DSN of the primary",
                )
            (dropped,) = await _one(self._writes, _DROPPED, self._scope[:1])
            if Snapshot.parse(snapshot).sees_all(dropped):
                return str(snapshot)
            await self._reads.rollback()
            await asyncio.sleep(_ASK_AGAIN_S)  # a standby's answer is nothing that can be awaited from here
        raise Retryable(
            f"{self._projection.entity}: transactions that are committed do not become visible on the reading side",
            remedy="a synchronous standby is away (see pg_stat_replication); bring it back or drop it, then run again",
        )

    async def _forward_rows(self) -> int:
        """Blocks of binary COPY from one server to the other; Python only hands them on."""
        target = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(
            table(self._projection), columns([a.column for a in self._projection.assignments])
        )
        cursor = self._writes.cursor()
        async with self._reads.cursor().copy(_selection(self._projection)) as source, cursor.copy(target) as sink:
            async for block in source:
                await sink.write(block)
        await self._reads.rollback()
        return cursor.rowcount

    async def _lock(self, attempt: int) -> None:
        row = await _one(
            self._writes,
            "SELECT attempt, state FROM alih.chunk WHERE direction = %s AND entity = %s FOR UPDATE",
            self._scope,
        )
        if row != (attempt, "spooling"):
            raise Retryable(
                f"{self._projection.entity}: another worker has taken this chunk over", remedy="nothing to do here"
            )

    async def _replay(self, snapshot: str) -> None:
        """Apply what was kept aside and what the snapshot did not see, in log order."""
        seen = Snapshot.parse(snapshot)
        places = tuple(i for i, c in enumerate(self._projection.read_columns) if c.key)
        position = Lsn.parse((await _one(self._writes, _POSITION, self._scope[:1]))[0])
        async for changes in self._spooled():
            segment = Segment()
            for xid, data in changes:
                if not seen.sees(xid):
                    segment = await self._fold(segment, places, xid, data, position)
            await self._writer.write(segment, position)

    async def _fold(self, segment: Segment, places: tuple[int, ...], xid: int, data: bytes, position: Lsn) -> Segment:
        change = decode(data)
        entity = self._projection.entity
        if isinstance(change, Update) and moves_key(change, places):
            await self._writer.write(segment, position)
            await self._writer.write(moved(entity, places, change, xid), position)
            return Segment()
        if isinstance(change, Insert | Update | Delete):
            segment.fold(entity, places, change, xid)
        return segment

    async def _spooled(self) -> AsyncIterator[list[tuple[int, bytes]]]:
        last = 0
        while True:
            cursor = await self._writes.execute(
                "SELECT ordinal, xid, change FROM alih.spool WHERE direction = %s AND entity = %s AND ordinal > %s"
                " ORDER BY ordinal LIMIT %s",
                (*self._scope, last, _REPLAY),
            )
            rows = await cursor.fetchall()
            if not rows:
                return
            last = rows[-1][0]
            yield [(xid, change) for _, xid, change in rows]

    async def _mark_done(self, snapshot: str, count: int) -> None:
        await self._writes.execute("DELETE FROM alih.spool WHERE direction = %s AND entity = %s", self._scope)
        await self._writes.execute(
            "UPDATE alih.chunk SET state = 'done', snapshot = %s, row_count = %s WHERE direction = %s AND entity = %s",
            (snapshot, count, *self._scope),
        )
        await self._writes.commit()


_POSITION = "SELECT position::text FROM alih.stream WHERE direction = %s"
_DROPPED = "SELECT dropped FROM alih.stream WHERE direction = %s"


def _selection(projection: Projection) -> sql.Composed:
    expressions = sql.SQL(", ").join(trusted(a.sent) for a in projection.assignments)
    ours = trusted(projection.reads_ours or "true")
    return sql.SQL("COPY (SELECT {} FROM {} r WHERE {}) TO STDOUT (FORMAT binary)").format(
        expressions, sql.Identifier(projection.reads.schema, projection.reads.name), ours
    )


async def _one(connection: Connection, query: str, parameters: tuple[Any, ...] = ()) -> tuple[Any, ...]:
    return await only_row(await connection.execute(query, parameters))
