"""The replication connection: a slot's log as it comes, and what we confirm back.

libpq's blocking read of COPY data would hold the interpreter's lock, so the asynchronous form is used and the wait
is on the socket. https://www.postgresql.org/docs/current/protocol-replication.html
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from struct import Struct
from typing import Any

import psycopg
from psycopg import AsyncConnection, pq, sql

from alih.errors import AlihError, NeedsOperator, Retryable
from alih.model.change import Lsn
from alih.model.projection import Direction
from alih.model.stream import Identity, StreamState
from alih.postgres.condition import Halt
from alih.postgres.session import connect, only_row

_XLOG = Struct("!cQQQ")
_KEEPALIVE = Struct("!cQQB")
_STATUS = Struct("!cQQQQB")
_IN_USE = b"55006"  # object_in_use
_UNDEFINED, _NOT_READY = b"42704", b"55000"  # undefined_object, object_not_in_prerequisite_state
_EPOCH_2000 = 946_684_800
_STATUS_EVERY_S = 5.0  # or more often, where the server's patience is short
_SILENCES = 2  # times wal_sender_timeout: each sign of life asks for an answer, and a busy server lets us wait for half
_MOST_AT_ONCE = 500  # what else waits for its turn does not wait long
_DATA = ord("w")
_ASK_SLOT, _ASK_SLOT_S = 50, 0.1


@dataclass(frozen=True, slots=True)
class Received:
    """What arrived since the last call: messages in order; `end` up to where the server has looked for more."""

    messages: list[bytes]
    end: Lsn


class LogStream:
    """A started stream. One reader only."""

    def __init__(self, connection: AsyncConnection[Any], direction: Direction, timeout_s: float) -> None:
        """`timeout_s` is the server's wal_sender_timeout; 0 means that it has none."""
        self.connection = connection
        """Open for questions until the stream is started."""
        self._pgconn = connection.pgconn
        self._direction = direction
        self._beat_s = min(_STATUS_EVERY_S, timeout_s / 4) if timeout_s else _STATUS_EVERY_S
        self._silence_s = _SILENCES * timeout_s
        self._end = Lsn(0)
        self._confirmed = Lsn(0)
        self._applied = Lsn(0)
        self._unpublished = False
        self._next_beat: asyncio.TimerHandle | None = None
        self._ready: asyncio.Future[bool] | None = None
        self._woken = False
        self.asked = False
        """The server waits to be told how far we are: it is about to go away."""
        connection.add_notice_handler(self._hear_notice)

    async def start(self, slot: str, publications: Sequence[str], position: Lsn) -> None:
        """Ask for everything committed from `position` on. Raises Halt if the slot is gone or lost."""
        names = ",".join(sql.Identifier(name).as_string() for name in publications)
        command = sql.SQL(
            "START_REPLICATION SLOT {} LOGICAL {} (proto_version '1', publication_names {},"
            " messages 'true', binary 'true')"
        ).format(sql.Identifier(slot), sql.SQL(str(position)), sql.Literal(names))
        for left in reversed(range(_ASK_SLOT)):
            result = await self._asked(command)
            if result is not None and result.status == pq.ExecStatus.COPY_BOTH:
                break
            if not left or not _in_use(result):
                raise self._not_started(slot, result)
            await asyncio.sleep(_ASK_SLOT_S)  # the server has not yet noticed that the slot's last reader is gone
        self._confirmed = self._applied = position
        self._beat()

    async def _asked(self, command: sql.Composed) -> pq.abc.PGresult | None:
        """The answer to a command; one that starts a stream is not followed by the end of the answers."""
        self._pgconn.send_query(command.as_bytes())
        while self._pgconn.flush():
            await self._readable()
        while self._pgconn.is_busy():
            await self._readable()
            self._consume()
        result = self._pgconn.get_result()
        if result is not None and result.status != pq.ExecStatus.COPY_BOTH:
            self._pgconn.get_result()
        return result

    def stop(self) -> None:
        """End the sign of life; the connection is its opener's to close."""
        if self._next_beat is not None:
            self._next_beat.cancel()

    def _beat(self) -> None:
        """Say that we are here, however long a batch takes: the server ends a stream that is silent for
        wal_sender_timeout. A lost connection is for the reader to find."""
        with suppress(psycopg.OperationalError):
            self._tell(answer=True)
        self._next_beat = asyncio.get_running_loop().call_later(self._beat_s, self._beat)

    async def receive(self) -> Received:
        """Wait for the next messages (or a keepalive, or to be woken) and take what is there. Raises Retryable when
        the connection ends."""
        messages: list[bytes] = []
        heard = self._drain(messages)
        await asyncio.sleep(0)  # under load there is always something to read, and others have their turn too
        while not (messages or heard or self._woken):
            await self._readable()
            heard = self._take_all(messages)
        self._woken = False
        return Received(messages, self._end)

    def wake(self) -> None:
        """Have the reader, or the next that comes, wait for nothing."""
        self._woken = True
        if self._ready is not None:
            _set_once(self._ready, True)

    def _take_all(self, messages: list[bytes]) -> bool:
        """Take what the server has sent by now, up to a measure; true if a keepalive moved the end."""
        heard, before = False, -1
        while before < len(messages) < _MOST_AT_ONCE:
            before = len(messages)
            self._consume()
            heard = self._drain(messages) or heard
        return heard

    def confirm(self, position: Lsn, applied: Lsn) -> None:
        """Everything before `position` is durable where it was written, as is the position; the server may forget it.
        Between there and `applied` was nothing to write. Raises Halt if rows were kept from us meanwhile."""
        if self._unpublished:
            raise Halt(StreamState.PUBLICATION_GONE, self._direction)
        self.asked = False
        self._confirmed, self._applied = max(self._confirmed, position), max(self._applied, applied)
        with _losing_it():
            self._tell()

    def _drain(self, messages: list[bytes]) -> bool:
        """Take what libpq has; true if a keepalive moved the end or asks for an answer."""
        heard, last, size = False, b"", 0
        get, append = self._pgconn.get_copy_data, messages.append
        with _losing_it():
            while len(messages) < _MOST_AT_ONCE:
                size, data = get(1)
                if size <= 0:
                    break
                block = bytes(data)
                if block[0] == _DATA:
                    last = block
                    append(block[_XLOG.size :])
                else:
                    heard = self._keepalive(block) or heard
        if last:
            self._end = Lsn(max(self._end, _XLOG.unpack_from(last)[2]))
        if size < 0:
            raise self._ended(self._pgconn.get_result())
        return heard

    def _keepalive(self, block: bytes) -> bool:
        _, end, _, reply = _KEEPALIVE.unpack_from(block)
        moved = bool(end > self._end)
        self._end = Lsn(max(self._end, end))
        if reply:
            self.asked = True
            with _losing_it():
                self._tell()
        return moved or bool(reply)

    def _tell(self, *, answer: bool = False) -> None:
        now_us = int((time.time() - _EPOCH_2000) * 1_000_000)
        at, applied = self._confirmed, max(self._confirmed, self._applied)
        self._pgconn.put_copy_data(_STATUS.pack(b"r", max(self._end, applied), at, applied, now_us, answer))
        self._pgconn.flush()

    def _hear_notice(self, notice: psycopg.errors.Diagnostic) -> None:
        """From 18 on a server without the publication warns, and goes on as if its tables were not in it."""
        if notice.sqlstate == _NOT_READY.decode() and "skipped loading publication" in (notice.message_primary or ""):
            self._unpublished = True

    def _consume(self) -> None:
        with _losing_it():
            self._pgconn.consume_input()

    async def _readable(self) -> None:
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[bool] = loop.create_future()
        self._ready = ready
        with _losing_it():
            descriptor = self._pgconn.socket
        loop.add_reader(descriptor, _set_once, ready, True)
        silence = loop.call_later(self._silence_s, _set_once, ready, False) if self._silence_s else None
        try:
            if not await ready:
                raise _lost()
        finally:
            loop.remove_reader(descriptor)
            self._ready = None
            if silence is not None:
                silence.cancel()

    def _ended(self, result: pq.abc.PGresult | None) -> AlihError:
        """Why the server ended the stream: it goes away, or what was asked of it can no longer be given."""
        state = (result.error_field(pq.DiagnosticField.SQLSTATE) if result else None) or b""
        if result is None or not state or state.startswith(b"57"):
            return _lost()
        if state == _UNDEFINED:
            return Halt(StreamState.PUBLICATION_GONE, self._direction)
        reason = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b""
        return NeedsOperator(
            f"the server ended the log stream: {reason.decode(errors='replace')} ({state.decode()})",
            remedy="undo what was done to the publication or the slot; if that is no longer possible: alih clean, then"
            " run",
        )

    def _not_started(self, slot: str, result: pq.abc.PGresult | None) -> AlihError:
        reason = result.error_message.decode(errors="replace").strip() if result else "no answer"
        if result is None or _state(result).startswith((b"57", b"53")) or _in_use(result):
            return Retryable(f"slot {slot} cannot be streamed: {reason}", remedy="stop the other alih, or run again")
        if _state(result) in (_UNDEFINED, _NOT_READY):
            return Halt(StreamState.SLOT_LOST, self._direction)
        return NeedsOperator(
            f"slot {slot} cannot be streamed: {reason}", remedy="mend what the server names, then run again"
        )


@asynccontextmanager
async def log_stream(dsn: str, direction: Direction) -> AsyncIterator[tuple[LogStream, Identity]]:
    """A replication connection and the identity of the server behind it."""
    connection = await connect(dsn, "the database whose log is followed", replication="database")
    stream = LogStream(connection, direction, await _timeout_s(connection))
    try:
        cursor = await connection.execute("IDENTIFY_SYSTEM")
        row = await only_row(cursor)
        yield stream, Identity(row[0], row[1])
    finally:
        stream.stop()
        await connection.close()  # not by its context: a connection that streams can neither commit nor roll back


async def _timeout_s(connection: AsyncConnection[Any]) -> float:
    """The server's wal_sender_timeout: it may have been set short, to notice lost receivers early."""
    cursor = await connection.execute("SELECT setting::int FROM pg_settings WHERE name = 'wal_sender_timeout'")
    (timeout_ms,) = await only_row(cursor)
    return float(timeout_ms) / 1000


def _set_once(ready: asyncio.Future[bool], value: bool) -> None:
    if not ready.done():
        ready.set_result(value)


@contextmanager
def _losing_it() -> Iterator[None]:
    try:
        yield
    except psycopg.OperationalError:
        raise _lost() from None


def _lost() -> Retryable:
    return Retryable("the connection to the log was lost", remedy="the server or the network went away; run again")


def _state(result: pq.abc.PGresult) -> bytes:
    return result.error_field(pq.DiagnosticField.SQLSTATE) or b""


def _in_use(result: pq.abc.PGresult | None) -> bool:
    return result is not None and _state(result) == _IN_USE
