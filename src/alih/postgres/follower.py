"""Applies one direction's log: many source transactions in commit order, in one transaction of the writing side.

The position is committed with the rows, so nothing replays after a crash and every statement can assert how many
rows it touched. A batch begins with the lock on the stream's row, without which no worker changes a chunk's state: what
was decided about a change (drop, spool, apply: `alih.model.stitching`) still holds when it commits.

A batch ends with whatever whole transactions have arrived: at low load at once, under load with more of them. Once all
is copied, every change is to be applied: then the log is read and folded (`alih.postgres.folding`) while the batch
before is being written. Else, and for what is no plain row, message by message, and nothing is read ahead.
"""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
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
from alih.postgres import changed, chunks, condition, positions, stretches
from alih.postgres.condition import Halt
from alih.postgres.failures import named
from alih.postgres.folding import Ahead, Folding, Table, Transaction
from alih.postgres.log import LogStream
from alih.postgres.pgoutput import decode, sent_row
from alih.postgres.segments import SegmentWriter
from alih.postgres.watching import Watch

Connection = AsyncConnection[tuple[Any, ...]]

_MANY_DROPPED = 1_000  # transactions remembered until seen visible, before somebody looks
_BATCH = 20_000  # changes; a larger transaction is written in parts, committed once
_MANY_NOTED, _TOO_MANY_NOTED = 20_000, 5_000_000  # changed keys that are tidied up at leisure, or at once
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
        self._connection = connection
        self._by_entity = {p.entity: p for p in projections}
        self._watch = Watch(direction, projections, reads, connection)
        self._writer = SegmentWriter(connection, projections)
        self._chunks: Mapping[str, EntityChunks] = {}
        self._chunk_version: int | None = None
        self._plain = False  # every change is to be applied
        self._stored = Lsn(0)
        self._dropped: set[int] = set()
        self._kept = 0  # changed keys that the log of them had when it was last tidied up
        self._folding = Folding(Lsn(0))
        self._opened = False  # the transaction of the writing side has begun
        self._batch: _Batch | None = None
        self._due = False
        self._pending: list[bytes] = []  # the beginning of a transaction whose rest is on its way
        self._written: asyncio.Task[None] | None = None
        self._refused: Ahead | None = None

    async def follow(self, log: LogStream, identity: Identity, slot: str, publications: Sequence[str]) -> None:
        """Run until cancelled. Raises Retryable when a connection is lost, another AlihError for what a person has
        to see; then state and reason are also stored."""
        stop: AlihError | None = None
        try:
            async with asyncio.TaskGroup() as tasks:
                with self._named():
                    await self._resume(identity, slot, publications)
                    await log.start(slot, publications, self._folding.position)
                    async with self._watch.watched(lambda: self._stored):
                        while True:
                            await self._follow_once(log, tasks)
        except* AlihError as stops:
            stop = _first(stops)
        if stop is not None:
            if not isinstance(stop, Retryable):
                await self._note_stop(stop)
            raise stop

    def _named(self) -> AbstractContextManager[None]:
        return named(f"the {self._direction} stream")

    async def _follow_once(self, log: LogStream, tasks: asyncio.TaskGroup) -> None:
        self._plain = self._plain or self._settled(self._folding.position)
        received = await log.receive()
        messages = self._pending + received.messages
        begun = self._folding.transaction is not None
        whole = len(messages) if len(messages) > _BATCH else stretches.whole(messages, begun)
        self._pending = messages[whole:]
        for part, lonely in stretches.parted(messages[:whole]):
            if lonely:
                await self._finish(log, tasks)
            at = 0
            while at < len(part):
                at = await self._read(part, at, log, tasks)
        self._due = True
        if self._folding.transaction is not None or (self._written and not self._written.done()):
            return
        if self._folding.ahead.messages and self._batch is None:
            await self._hand_over(log, tasks)
        if self._written is None or self._written.done():
            await self._idle()
            await self._commit()
            if not messages:
                # no transaction is open: all before is applied
                self._folding.position = max(self._folding.position, received.end)
            await self._confirm(log)
            reached(Point.BATCH_CONFIRMED)
            if not messages:
                await self._compact(_MANY_NOTED)

    async def _finish(self, log: LogStream, tasks: asyncio.TaskGroup) -> None:
        """Have everything applied that was read so far: what comes next may stop the stream."""
        if self._folding.ahead.messages and self._batch is None:
            await self._hand_over(log, tasks)
        await self._idle()
        await self._commit()

    async def _compact(self, at: int) -> None:
        """Keep the changed log small: when there is nothing else to do, or when it cannot wait any longer."""
        if self._writer.noted >= max(at, self._kept):
            self._writer.noted = 0
            self._kept = await changed.compact(self._connection, self._direction)
            await self._connection.commit()

    async def _confirm(self, log: LogStream) -> None:
        """Confirm what is stored, and never more: a slot that has confirmed more is then known not to be ours.

        Log without rows for us is stored when there is much of it, or when a server asks: one that shuts down waits
        for our word. At each keepalive would not do: what is stored here is log to the other stream, which would
        store that it has passed it, and so on for ever.
        """
        position = self._folding.position
        if position > self._stored and (log.asked or position - self._stored >= _LET_GO):
            await self._connection.execute(
                "UPDATE alih.stream SET position = %s WHERE direction = %s", (str(position), self._direction.value)
            )
            await self._connection.commit()
            self._stored = position
        log.confirm(self._stored, position)

    async def _resume(self, identity: Identity, slot: str, publications: Sequence[str]) -> None:
        row = await self._one(
            "SELECT position::text, dropped, system_id, timeline, publication::bigint FROM alih.stream"
            " WHERE direction = %s"
        )
        self._stored, self._dropped = Lsn.parse(row[0]), set(row[1])
        self._folding = Folding(self._stored)
        stored = Stored(Identity(row[2], row[3]), self._stored, row[4])
        await condition.check(self._reads, self._direction, slot, publications[0], stored, identity)
        await self._connection.execute(
            "UPDATE alih.stream SET stopped = NULL, state = 'following' WHERE direction = %s", (self._direction.value,)
        )
        await self._connection.commit()
        await self._connection.execute("SET session_replication_role = replica")
        await self._writer.prepare()
        await self._watch.begin(publications)
        await self._hold_chunks()
        await self._connection.commit()

    # --- ahead of the batch that is being written -------------------------------------------------------------

    async def _read(self, messages: Sequence[bytes], at: int, log: LogStream, tasks: asyncio.TaskGroup) -> int:
        """Read on from message `at`, and say where to go on."""
        if self._plain and self._batch is None:
            stopped = self._folding.fold(messages, at)
            full = self._folding.full
            if full:
                await self._hand_over(log, tasks)
            if full or stopped > at:
                return stopped
        if self._written is not None or self._refused is not None:
            await self._idle()
        await self._take(messages[at])
        return at + 1

    async def _hand_over(self, log: LogStream, tasks: asyncio.TaskGroup) -> None:
        """Have what is folded written, as soon as what was handed over before is."""
        await self._idle()
        if self._batch is not None:
            return
        folding = self._folding
        part = _Part(folding.take_ahead(), folding.reached, folding.transaction is None, folding.committed_us)
        if part.ahead.first is not None or self._opened:
            self._written = tasks.create_task(self._write_out(part, log))
        elif part.ends:
            await self._confirm(log)

    async def _write_out(self, part: "_Part", log: LogStream) -> None:
        with self._named():
            if not await self._begun(part.ahead.first):
                await self._connection.rollback()
                self._opened, self._refused = False, part.ahead
            else:
                await self._write(part.ahead.segment, part.reached)
                if part.ends:
                    await self._commit_at(part.reached, part.committed_us, awaited=False)
                    log.confirm(self._stored, part.reached)
                    reached(Point.BATCH_CONFIRMED)
        log.wake()

    async def _idle(self) -> None:
        """Wait until nothing is being written. What was refused, for chunks had changed meanwhile, is read anew."""
        if self._written is not None:
            await self._written
            self._written = None
        if self._refused is not None:
            refused, self._refused = self._refused, None
            later = self._folding.take_ahead()
            await self._again(refused, later.messages)

    async def _again(self, ahead: Ahead, later: Sequence[bytes] = ()) -> None:
        self._plain = False
        self._folding.back(ahead)
        for data in (*ahead.messages, *later):
            await self._take(data)

    # --- one message ----------------------------------------------------------------------------------------

    async def _take(self, data: bytes) -> None:
        message = decode(data)
        match message:
            case Insert() | Update() | Delete():
                await self._change(message, data)
            case Begin():
                self._folding.begin(data)
            case Commit():
                await self._end(data)
            case Relation():
                self._folding.describe(message.id, await self._known(message))
            case Message():
                await self._message(message)
            case Truncate():
                self._refuse_truncate(message)
            case Ignored():
                pass

    def _refuse_truncate(self, truncate: Truncate) -> None:
        tables = [table for number in truncate.relations if (table := self._folding.table(number)) is not None]
        if tables:
            names = ", ".join(f"table {table.name}" for table in tables)
            raise NeedsOperator(
                f"{names} of the {self._direction.reads} was truncated, and alih does not repeat that",
                remedy="alih clean, then start the copy anew",
            )

    async def _end(self, data: bytes) -> None:
        self._folding.end(data)
        if self._batch is not None:
            self._batch.committed_us = self._folding.committed_us
            if self._due or self._batch.size >= _BATCH:
                await self._commit()

    async def _message(self, message: Message) -> None:
        transaction = self._folding.transaction
        if message.prefix == positions.OWN and transaction is not None:
            transaction.own = transaction.skipped = True
        elif message.prefix in (positions.CUT, positions.OWNER):
            batch = await self._open_batch()
            batch.awaited = self._due = True
            if message.prefix == positions.OWNER:
                await self._flush(batch)
                await self._turn(Turn.decode(message.content))

    async def _change(self, change: Change, data: bytes) -> None:
        transaction = self._open_transaction()
        if transaction.skipped:
            return
        table = self._folding.table(change.relation)
        if table is None:
            return
        batch = await self._open_batch()
        chunks_of = self._chunks.get(table.entity)
        if chunks_of is None or chunks_of.settled(transaction.commit_lsn):
            await self._apply(batch, table, change, transaction.xid)
            return
        for part in route(chunks_of, change, transaction.xid):
            await self._stitch(batch, table, part, transaction.xid, data)

    async def _stitch(self, batch: "_Batch", table: Table, part: Part, xid: int, data: bytes) -> None:
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
                self._plain = False
                self._chunk_version = await chunks.change_version(self._connection, self._direction)
                self._dropped.add(xid)

    async def _apply(self, batch: "_Batch", table: Table, change: Change, xid: int) -> None:
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
        """The batch at hand; a new one begins with what is folded already."""
        await self._idle()
        while self._batch is None:
            ahead = self._folding.take_ahead()
            self._batch = _Batch(ahead.segment, self._folding.committed_us)
            if not await self._begun(ahead.first):
                self._batch.segment = Segment(sent_row)
                await self._again(ahead)
        return self._batch

    async def _begun(self, first: Lsn | None) -> bool:
        """Begin the transaction of the writing side, unless it has begun. False if by now not everything is to be
        applied of the transactions of which the first commits at `first`."""
        if self._opened:
            return True
        await self._hold_chunks()
        reached(Point.BATCH_OPENED)
        await positions.mark_own(self._connection)
        self._opened = True
        return first is None or self._settled(first)

    def _settled(self, commit: Lsn) -> bool:
        return all(of_entity.settled(commit) for of_entity in self._chunks.values())

    async def _hold_chunks(self) -> None:
        """From here to the end of the transaction no chunk changes its state."""
        stream = await chunks.hold_stream(self._connection, self._direction)
        if stream.chunk_version == self._chunk_version:
            return
        self._chunks = await chunks.read(self._connection, self._direction, self._by_entity)
        self._chunk_version, self._plain = stream.chunk_version, False
        if all(of_entity.done for of_entity in self._chunks.values()):
            self._dropped.clear()
        else:
            self._dropped |= stream.dropped

    async def _flush_full(self, batch: "_Batch") -> None:
        """Write a part of a transaction that is too large for one batch; it is committed with the rest."""
        if batch.size >= _BATCH:
            await self._flush(batch)

    async def _flush(self, batch: "_Batch") -> None:
        await self._write(batch.segment, self._folding.reached)
        batch.segment = Segment(sent_row)
        if batch.spooled:
            await chunks.spool(self._connection, batch.spooled)
            batch.spooled = []

    async def _write(self, segment: Segment, position: Lsn) -> None:
        if len(segment):
            await self._writer.write(segment, position)
            reached(Point.SEGMENT_WRITTEN)

    async def _commit(self) -> None:
        batch, self._batch, self._due = self._batch, None, False
        if batch is not None:
            await self._flush(batch)
            await self._commit_at(self._folding.position, batch.committed_us, awaited=batch.awaited)

    async def _commit_at(self, position: Lsn, committed_us: int, *, awaited: bool) -> None:
        if len(self._dropped) >= _MANY_DROPPED:
            await self._forget_visible()
        await self._connection.execute(
            "UPDATE alih.stream SET position = %s, dropped = %s, ordinal = ordinal + 1, committed_at = %s,"
            " applied_at = clock_timestamp() WHERE direction = %s",
            (
                str(position),
                list(self._dropped),
                _YEAR_2000 + timedelta(microseconds=committed_us),
                self._direction.value,
            ),
        )
        if awaited:
            await self._connection.execute("SELECT pg_notify(%s, '')", (positions.CHANNEL,))
        reached(Point.BATCH_WRITTEN)
        await self._connection.commit()
        self._opened, self._stored = False, position
        reached(Point.BATCH_COMMITTED)
        await self._compact(_TOO_MANY_NOTED)

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

    def _open_transaction(self) -> Transaction:
        if self._folding.transaction is None:
            raise Corrupt(
                "the log holds a change outside a transaction", remedy="report this with the server's version"
            )
        return self._folding.transaction

    async def _known(self, relation: Relation) -> Table | None:
        """None for a table that is no longer the stream's: its changes are not for us."""
        transaction = self._folding.transaction
        projection = await self._watch.described(relation, transaction.xid if transaction else None)
        if projection is None:
            return None
        return Table(projection.entity, projection.read_columns, str(projection.reads))

    async def _one(self, statement: str) -> tuple[Any, ...]:
        cursor = await self._connection.execute(statement, (self._direction.value,))
        row = await cursor.fetchone()
        if row is None:
            raise NeedsOperator(
                f"the {self._direction} stream was never set up in this database", remedy="start with alih run"
            )
        return row


def _first(stops: BaseExceptionGroup[AlihError]) -> AlihError:
    """Why a stream stopped; what failed beside it failed for that."""
    stop = stops.exceptions[0]
    return _first(stop) if isinstance(stop, BaseExceptionGroup) else stop


@dataclass(frozen=True, slots=True)
class _Part:
    """What is handed over to be written. `ends`: with the end of a transaction, so that it can be committed."""

    ahead: Ahead
    reached: Lsn
    ends: bool
    committed_us: int


@dataclass(slots=True)
class _Batch:
    """What one transaction of the writing side will hold, where changes are looked at one by one."""

    segment: Segment
    committed_us: int
    spooled: list[tuple[int, int, bytes]] = field(default_factory=list)
    awaited: bool = False

    @property
    def size(self) -> int:
        """Changes in hand that are not written yet."""
        return len(self.segment) + len(self.spooled)
