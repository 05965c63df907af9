"""Waiting until a stream has applied what another database had: the cut, the read barrier, the verification.

A transactional message is written on the reading side. Every transaction whose effects we wait for has committed
before that message was written, so its commit stands earlier in the log; the stream applies in commit order, hence
once the position stored on the writing side reaches the message, all of them are applied. `pg_current_wal_lsn()`
would not do: after asynchronous commits it can lie before them.
"""

import asyncio
from typing import Any, LiteralString

from psycopg import AsyncConnection

from alih.errors import NeedsOperator, Retryable
from alih.model.change import Lsn
from alih.model.projection import Direction
from alih.postgres.line import Line
from alih.postgres.session import only_row

OWN = "alih.own"
"""Prefix of the first record of each transaction in which alih itself writes rows: the other stream drops it."""
CUT = "alih.cut"
"""Prefix of a message that somebody waits for."""
OWNER = "alih.owner"
"""Prefix of the message that turns a tenant's owner; see `alih.model.turn`."""

CHANNEL: LiteralString = "alih_position"

_LOOK_EVERY_S = 0.02  # a notice can come between the look and the wait

Connection = AsyncConnection[tuple[Any, ...]]


async def mark_own(connection: Connection) -> None:
    """Mark the open transaction as alih's own, before it writes any row."""
    await connection.execute("SELECT pg_logical_emit_message(true, %s, '')", (OWN,))


async def cut(connection: Connection) -> Lsn:
    """Write a message into the log, durably, and return its position. The connection is in autocommit."""
    async with connection.transaction():
        await connection.execute("SET LOCAL synchronous_commit = on")
        cursor = await connection.execute("SELECT pg_logical_emit_message(true, %s, '')::text", (CUT,))
        (position,) = await only_row(cursor)
    return Lsn.parse(position)


class Applied:
    """How far a stream has come, asked on a line of its own to the writing side's database."""

    def __init__(self, line: Line, direction: Direction) -> None:
        self._line = line
        self._direction = direction

    async def position(self) -> Lsn:
        """The stored position. Raises NeedsOperator if the stream has stopped by name."""
        async with self._line.connection() as connection:
            return await self._stored(connection)

    async def reached(self, position: Lsn, within_s: float) -> None:
        """Return when everything up to `position` is applied. Raises Retryable when that takes longer. A connection
        that is lost meanwhile is made anew."""
        lost: Retryable | None = None
        try:
            async with asyncio.timeout(within_s):
                while True:
                    try:
                        return await self._awaited(position)
                    except Retryable as loss:
                        lost = loss
                        await asyncio.sleep(_LOOK_EVERY_S)
        except TimeoutError:
            raise lost or Retryable(
                f"the {self._direction} stream did not reach {position} within {within_s:g} s",
                remedy="see alih status for its lag; wait until it is small, then run again",
            ) from None

    async def _awaited(self, position: Lsn) -> None:
        async with self._line.connection() as connection:
            await connection.execute(f"LISTEN {CHANNEL}")
            while await self._stored(connection) < position:
                async for _ in connection.notifies(timeout=_LOOK_EVERY_S, stop_after=1):
                    pass

    async def _stored(self, connection: Connection) -> Lsn:
        cursor = await connection.execute(
            "SELECT position::text, stopped FROM alih.stream WHERE direction = %s", (self._direction.value,)
        )
        row = await cursor.fetchone()
        if row is None:
            return Lsn(0)
        if row[1] is not None:
            raise NeedsOperator(f"the {self._direction} stream stopped: {row[1]}", remedy="mend the cause, run again")
        return Lsn.parse(row[0])
