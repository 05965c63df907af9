"""Rows of a query on one server into a table of another: blocks of binary COPY that Python only hands on.

A server sends one message a row, so what Python does for a row decides what a copy costs. Here it is one call of
libpq and one append; a row that is kept as an object, even until the block is full, costs three times as much. The
wait is on the sockets (libpq's blocking calls hold the interpreter's lock), and only when libpq has run dry.
https://www.postgresql.org/docs/current/libpq-copy.html
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from select import POLLIN, poll
from typing import Any

from psycopg import AsyncConnection, AsyncCursor, errors, pq, sql
from psycopg.abc import Buffer
from psycopg.copy import AsyncLibpqWriter
from psycopg.generators import copy_end, fetch_many

Connection = AsyncConnection[tuple[Any, ...]]

_BLOCK_BYTES = 128 << 10  # smaller ones cost switches between the two sides, larger ones keep one of them waiting
_CANCEL_WITHIN_S = 5.0
_ENDED_EARLY = b"alih could not send all rows"


async def forward(
    reads: Connection,
    writes: Connection,
    selection: sql.Composed,
    target: sql.Composed,
    paced: Callable[[int], Awaitable[None]] | None = None,
) -> int:
    """Forward what `selection` (`COPY … TO STDOUT`) gives into `target` (`COPY … FROM STDIN`), both in binary form.
    Returns the number of rows. The transactions on both sides are the caller's. `paced` is told the size of each block,
    and returns when the next may come.

    Raises psycopg's error of the side that failed, as soon as that side has said so; both connections are then out of
    the copy. Memory: two blocks, and three times the largest row."""
    cursor = writes.cursor()
    with _Sink.opened(cursor) as writer:
        async with reads.cursor().copy(selection), cursor.copy(target, writer=writer) as sink:
            source = _Source(reads)
            while block := await source.block():
                await sink.write(block)
                await (asyncio.sleep(0) if paced is None else paced(len(block)))
    return cursor.rowcount


class _Source:
    """The rows that a connection gives in COPY."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._pgconn = connection.pgconn
        self._ended = False

    async def block(self) -> bytearray:
        """The next rows; empty when there are no more. Raises what the server ended the copy with."""
        block = bytearray()
        take = self._pgconn.get_copy_data
        dry = False
        while not self._ended:
            size, row = take(1)
            if size > 0:
                block += row
                dry = False
            elif size < 0:
                await self._end()
            elif len(block) >= _BLOCK_BYTES:
                break
            else:
                # Twice for each wait: decrypted bytes can be left that the socket no longer shows.
                if dry:
                    await _ready(self._pgconn.socket)
                self._pgconn.consume_input()
                dry = not dry
        return block

    async def _end(self) -> None:
        self._ended = True
        for result in await self._connection.wait(fetch_many(self._pgconn)):
            if result.status != pq.ExecStatus.COMMAND_OK:
                raise errors.error_from_result(result)


class _Sink(AsyncLibpqWriter):
    """Hands blocks to the server no faster than it takes them, and hears it when it refuses: libpq itself would go on
    sending the rest of a table to a server that has given up at the first row."""

    def __init__(self, cursor: AsyncCursor[Any]) -> None:
        super().__init__(cursor)
        self._notices = 0
        self._socket = poll()
        self._socket.register(self._pgconn.socket, POLLIN)

    @classmethod
    @contextmanager
    def opened(cls, cursor: AsyncCursor[Any]) -> Iterator["_Sink"]:
        sink = cls(cursor)
        cursor.connection.add_notice_handler(sink._noticed)
        try:
            yield sink
        finally:
            cursor.connection.remove_notice_handler(sink._noticed)

    async def write(self, data: Buffer) -> None:
        self._pgconn.put_copy_data(data)
        while self._pgconn.flush():
            await _ready(self._pgconn.socket, writable=True)
            await self._heed()
        await self._heed()

    async def finish(self, exc: BaseException | None = None) -> None:
        """End the copy. A server that waits for a lock would not listen, so a failed one is cancelled; `exc` is not
        told to it: it could hold a row's value."""
        if self._pgconn.transaction_status != pq.TransactionStatus.ACTIVE:
            return
        if exc is not None:
            await self.connection.cancel_safe(timeout=_CANCEL_WITHIN_S)
        await super().finish(None if exc is None else asyncio.CancelledError())

    async def _heed(self) -> None:
        """Raise the server's error if it has sent one. During a COPY it sends nothing else but notices."""
        if not self._socket.poll(0):
            return
        before = self._notices
        self._pgconn.consume_input()
        self._pgconn.is_busy()  # has libpq hand on the notices
        if self._notices == before:
            await self.connection.wait(copy_end(self._pgconn, _ENDED_EARLY))

    def _noticed(self, _: errors.Diagnostic) -> None:
        self._notices += 1


async def _ready(descriptor: int, *, writable: bool = False) -> None:
    """Wait until there is something to read, or, if asked, room to write."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(descriptor, _set_once, ready)
    if writable:
        loop.add_writer(descriptor, _set_once, ready)
    try:
        await ready
    finally:
        loop.remove_reader(descriptor)
        if writable:
            loop.remove_writer(descriptor)


def _set_once(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
