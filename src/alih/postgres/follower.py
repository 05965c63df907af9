"""Applies one direction's log: many source transactions in commit order, in one transaction of the writing side.

The position is committed with the rows, so nothing replays after a crash and every statement can assert how many
rows it touched. A batch begins with the lock on the stream's row, without which no worker changes a chunk's state: what
was decided about a change (drop, spool, apply: `alih.model.stitching`) still holds when it commits.

A batch ends with whatever whole transactions have arrived: at low load at once, under load with more of them.
"""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg import AsyncConnection

from alih.errors import AlihError, Corrupt, NeedsOperator, Retryable
from alih.faults import Point, reached
from alih.model.change import (
    Begin,
    Change,
    Commit,
    Delete,
    Ignored,
    Insert,
    Lsn,
    Message,
    Relation,
    Truncate,
    Update,
)
from alih.model.chunk import Snapshot
from alih.model.compaction import Segment, moved, moves_key
from alih.model.projection import Direction, Projection
from alih.model.stitching import EntityChunks, Forget, Keep, Part, Reread, Write, one_row, route
from alih.model.stream import Identity, Stored, StreamState
from alih.model.turn import Turn
from alih.postgres import chunks, condition, positions
from alih.postgres.condition import Halt
from alih.postgres.failures import named
from alih.postgres.log import LogStream
from alih.postgres.pgoutput import decode
from alih.postgres.segments import SegmentWriter
from alih.postgres.watching import Watch

Connection = AsyncConnection[tuple[Any, ...]]

_MANY_DROPPED = 1_000  # transactions remembered until seen visible, before somebody looks
_BATCH = 20_000  # changes; a larger transaction is written in parts, committed once
_LET_GO = 16 << 20  # log without rows for us that is let go of at once: a segment, which is what a server removes
_YEAR_2000 = datetime(2000, 1, 1, tzinfo=UTC)


class Follower:
    """One stream. Both connections are this follower's own: `connection` to the writing side, not in autocommit;
    `reads` to the reading side, in autocommit, for questions that its log does not answer."""

    def __init__(
        self, direction: Direction, projections: Sequence[Projection], connection: Connection, reads: Connection
    ) -> None:
        self._direction = direction
        self._reads = reads
        self._watch = Watch(direction, projections, reads, connection)
        self._by_entity = {p.entity: p for p in projections}
        self._chunks: Mapping[str, EntityChunks] = {}
        self._chunk_version: int | None = None
        self._connection = connection
        self._writer = SegmentWriter(connection, projections)
        self._relations: dict[int, _Table | None] = {}
        self._position = Lsn(0)
        self._stored = Lsn(0)
        self._dropped: set[int] = set()
        self._batch: _Batch | None = None
        self._transaction: _Transaction | None = None
        self._due = False
        self._pending: list[bytes] = []  # the beginning of a transaction whose rest is on its way

    async def follow(self, log: LogStream, identity: Identity, slot: str, publications: Sequence[str]) -> None:
        """Run until cancelled. Raises Retryable when a connection is lost, another AlihError for what a person has
        to see; then state and reason are also stored."""
        try:
            with named(f"the {self._direction} stream"):
                await self._resume(identity, slot, publications)
                await log.start(slot, publications, self._position)
                async with self._watch.watched(lambda: self._stored):
                    while True:
                        await self._follow_once(log)
        except Retryable:
            raise
        except AlihError as stop:
            await self._note_stop(stop)
            raise

    async def _follow_once(self, log: LogStream) -> None:
        received = await log.receive()
        messages = self._pending + received.messages
        whole = len(messages) if len(messages) > _BATCH else _whole(messages, self._transaction is not None)
        self._pending = messages[whole:]
        lonely = _lonely(messages[:whole])
        for place, data in enumerate(messages[:whole]):
            if place in lonely:
                await self._commit()
            await self._take(data)
        self._due = True
        if self._transaction is None:
            await self._commit()
            if not messages:
                self._position = max(self._position, received.end)  # no transaction is open: all before is applied
            await self._confirm(log)
            reached(Point.BATCH_CONFIRMED)

    async def _confirm(self, log: LogStream) -> None:
        """Confirm what is stored, and never more: a slot that has confirmed more is then known not to be ours.

        Log without rows for us is stored when there is much of it, or when a server asks: one that shuts down waits
        for our word. At each keepalive would not do: what is stored here is log to the other stream, which would
        store that it has passed it, and so on for ever.
        """
        if self._position > self._stored and (log.asked or self._position - self._stored >= _LET_GO):
            await self._connection.execute(
                "UPDATE alih.stream SET position = %s WHERE direction = %s",
                (str(self._position), self._direction.value),
            )
            await self._connection.commit()
            self._stored = self._position
        log.confirm(self._stored, self._position)

    async def _resume(self, identity: Identity, slot: str, publications: Sequence[str]) -> None:
        row = await self._one(
            "SELECT position::text, dropped, system_id, timeline, publication::bigint FROM alih.stream"
            " WHERE direction = %s"
        )
        self._position, self._dropped = Lsn.parse(row[0]), set(row[1])
        self._stored = self._position
        stored = Stored(Identity(row[2], row[3]), self._stored, row[4])
        await condition.check(self._reads, self._direction, slot, publications[0], stored, identity)
        await self._connection.execute(
            "UPDATE alih.stream SET stopped = NULL, state = 'following' WHERE direction = %s", (self._direction.value,)
        )
        await self._connection.commit()
        await self._connection.execute("SET session_replication_role = replica")
        await self._writer.prepare()
        await self._watch.begin(publications)
        await self._connection.commit()

    # --- one message ----------------------------------------------------------------------------------------

    async def _take(self, data: bytes) -> None:
        message = decode(data)
        match message:
            case Insert() | Update() | Delete():
                await self._change(message, data)
            case Begin():
                self._transaction = _Transaction(message)
            case Commit():
                await self._end(message)
            case Relation():
                self._relations[message.id] = await self._known(message)
            case Message():
                await self._message(message)
            case Truncate():
                self._refuse_truncate(message)
            case Ignored():
                pass

    def _refuse_truncate(self, truncate: Truncate) -> None:
        tables = [table for number in truncate.relations if (table := self._relations[number]) is not None]
        if tables:
            names = ", ".join(f"table {table.name}" for table in tables)
            raise NeedsOperator(
                f"{names} of the {self._direction.reads} was truncated, and alih does not repeat that",
                remedy="alih clean, then start the copy anew",
            )

    async def _end(self, commit: Commit) -> None:
        transaction = self._open_transaction()
        self._transaction = None
        self._position = commit.end_lsn
        if self._batch is not None:
            self._batch.committed_us = transaction.begin.committed_us
            if self._due or self._batch.size >= _BATCH:
                await self._commit()

    async def _message(self, message: Message) -> None:
        if message.prefix == positions.OWN and self._transaction is not None:
            self._transaction.own = True
        elif message.prefix in (positions.CUT, positions.OWNER):
            batch = await self._open_batch()
            batch.awaited = self._due = True
            if message.prefix == positions.OWNER:
                await self._flush(batch)
                await self._turn(Turn.decode(message.content))

    async def _change(self, change: Change, data: bytes) -> None:
        transaction = self._open_transaction()
        if transaction.own or transaction.begin.commit_lsn < self._position:
            return
        table = self._relations[change.relation]
        if table is None:
            return
        batch = await self._open_batch()
        chunks_of = self._chunks.get(table.entity)
        if chunks_of is None or chunks_of.settled(transaction.begin.commit_lsn):
            await self._apply(batch, table, change, transaction.begin.xid)
            return
        for part in route(chunks_of, change, transaction.begin.xid):
            await self._stitch(batch, table, part, transaction.begin.xid, data)

    async def _stitch(self, batch: "_Batch", table: "_Table", part: Part, xid: int, data: bytes) -> None:
        match part:
            case Write(change):
                await self._apply(batch, table, change, xid)
            case Keep(chunk):
                batch.spooled.append((chunk, xid, data))
                await self._flush_full(batch)
            case Forget(remember):
                if remember:
                    self._dropped.add(xid)
            case Reread(key):
                number = await chunks.add_row(self._connection, self._direction, table.entity, key)
                self._chunks[table.entity].add_row(one_row(number, key))
                self._chunk_version = await chunks.change_version(self._connection, self._direction)
                self._dropped.add(xid)

    async def _apply(self, batch: "_Batch", table: "_Table", change: Change, xid: int) -> None:
        if moves_key(change, table.key_places) and isinstance(change, Update):
            await self._flush(batch)
            batch.segment = moved(table.entity, table.key_places, change, xid)
            await self._flush(batch)
            return
        batch.segment.fold(table.entity, table.key_places, change, xid)
        await self._flush_full(batch)

    async def _turn(self, turn: Turn) -> None:
        await self._connection.execute(
            "INSERT INTO alih.flow (direction, tenant, applies, epoch) VALUES (%s, %s, %s, %s) ON CONFLICT"
            " (direction, tenant) DO UPDATE SET applies = excluded.applies, epoch = excluded.epoch",
            (self._direction.value, turn.tenant, turn.applies(self._direction), turn.epoch),
        )

    # --- one batch ------------------------------------------------------------------------------------------

    async def _open_batch(self) -> "_Batch":
        if self._batch is None:
            await self._hold_chunks()
            reached(Point.BATCH_OPENED)
            await positions.mark_own(self._connection)
            self._batch = _Batch()
        return self._batch

    async def _hold_chunks(self) -> None:
        """From here to the end of the transaction no chunk changes its state."""
        stream = await chunks.hold_stream(self._connection, self._direction)
        if stream.chunk_version == self._chunk_version:
            return
        self._chunks = await chunks.read(self._connection, self._direction, self._by_entity)
        self._chunk_version = stream.chunk_version
        if all(of_entity.done for of_entity in self._chunks.values()):
            self._dropped.clear()
        else:
            self._dropped |= stream.dropped

    async def _flush_full(self, batch: "_Batch") -> None:
        """Write a part of a transaction that is too large for one batch; it is committed with the rest."""
        if batch.size >= _BATCH:
            await self._flush(batch)

    async def _flush(self, batch: "_Batch") -> None:
        if len(batch.segment):
            await self._writer.write(batch.segment, self._reached)
            reached(Point.SEGMENT_WRITTEN)
        batch.segment = Segment()
        if batch.spooled:
            await chunks.spool(self._connection, batch.spooled)
            batch.spooled = []

    async def _commit(self) -> None:
        batch, self._batch, self._due = self._batch, None, False
        if batch is None:
            return
        await self._flush(batch)
        if len(self._dropped) >= _MANY_DROPPED:
            await self._forget_visible()
        await self._connection.execute(
            "UPDATE alih.stream SET position = %s, dropped = %s, ordinal = ordinal + 1, committed_at = %s,"
            " applied_at = clock_timestamp() WHERE direction = %s",
            (str(self._position), list(self._dropped), batch.committed_at, self._direction.value),
        )
        if batch.awaited:
            await self._connection.execute("SELECT pg_notify(%s, '')", (positions.CHANNEL,))
        reached(Point.BATCH_WRITTEN)
        await self._connection.commit()
        self._stored = self._position
        reached(Point.BATCH_COMMITTED)

    async def _forget_visible(self) -> None:
        """What is visible now is visible in every later snapshot, so no copy has to look for it."""
        cursor = await self._reads.execute("SELECT pg_current_snapshot()::text, pg_is_in_recovery()")
        row = await cursor.fetchone()
        if row is not None and not row[1]:
            snapshot = Snapshot.parse(row[0])
            self._dropped = {xid for xid in self._dropped if not snapshot.sees(xid)}

    async def _note_stop(self, stop: AlihError) -> None:
        """Store the reason, as far as the database still answers; the caller raises it in any case."""
        state = stop.state if isinstance(stop, Halt) else StreamState.STOPPED
        with suppress(psycopg.OperationalError):
            await self._connection.rollback()
            await self._connection.execute(
                "UPDATE alih.stream SET stopped = %s, state = %s WHERE direction = %s",
                (str(stop), state.value, self._direction.value),
            )
            await self._connection.execute("SELECT pg_notify(%s, '')", (positions.CHANNEL,))
            await self._connection.commit()

    # --- parts ----------------------------------------------------------------------------------------------

    @property
    def _reached(self) -> Lsn:
        """Where in the log the changes at hand end: the commit of the transaction that is being read, if any."""
        return self._transaction.begin.commit_lsn if self._transaction else self._position

    def _open_transaction(self) -> "_Transaction":
        if self._transaction is None:
            raise Corrupt(
                "the log holds a change outside a transaction", remedy="report this with the server's version"
            )
        return self._transaction

    async def _known(self, relation: Relation) -> "_Table | None":
        """None for a table that is no longer the stream's: its changes are not for us."""
        xid = self._transaction.begin.xid if self._transaction else None
        projection = await self._watch.described(relation, xid)
        if projection is None:
            return None
        places = tuple(i for i, c in enumerate(projection.read_columns) if c.key)
        return _Table(projection.entity, places, str(projection.reads))

    async def _one(self, statement: str) -> tuple[Any, ...]:
        cursor = await self._connection.execute(statement, (self._direction.value,))
        row = await cursor.fetchone()
        if row is None:
            raise NeedsOperator(
                f"the {self._direction} stream was never set up in this database", remedy="start with alih run"
            )
        return row


def _whole(messages: Sequence[bytes], begun: bool) -> int:
    """How many of the messages belong to whole transactions, or to one that is `begun` and in hand already."""
    for place in reversed(range(len(messages))):
        kind = messages[place][:1]
        if kind == b"C":
            return place + 1
        if kind == b"B":
            return place
    return len(messages) if begun else 0


def _lonely(messages: Sequence[bytes]) -> frozenset[int]:
    """Where transactions begin that describe or empty a table: they may stop the stream, and what came before them is
    to be applied then."""
    found: set[int] = set()
    begun = None
    for place, message in enumerate(messages):
        kind = message[:1]
        if kind == b"B":
            begun = place
        elif kind in (b"R", b"T") and begun is not None:
            found.add(begun)
    return frozenset(found)


class _Table:
    """A relation of the log as the contract knows it."""

    __slots__ = ("entity", "key_places", "name")

    def __init__(self, entity: str, key_places: tuple[int, ...], name: str) -> None:
        self.entity = entity
        self.key_places = key_places
        self.name = name


class _Transaction:
    """The transaction of the log that is being read."""

    __slots__ = ("begin", "own")

    def __init__(self, begin: Begin) -> None:
        self.begin = begin
        self.own = False


class _Batch:
    """What one transaction of the writing side will hold."""

    __slots__ = ("awaited", "committed_us", "segment", "spooled")

    def __init__(self) -> None:
        self.segment = Segment()
        self.spooled: list[tuple[int, int, bytes]] = []
        self.awaited = False
        self.committed_us = 0

    @property
    def size(self) -> int:
        """Changes in hand that are not written yet."""
        return len(self.segment.history) + len(self.spooled)

    @property
    def committed_at(self) -> datetime:
        return _YEAR_2000 + timedelta(microseconds=self.committed_us)
