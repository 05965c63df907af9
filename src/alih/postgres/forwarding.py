"""Rows of a query on one server into a table of another: blocks of binary COPY that Python only hands on."""

from collections.abc import Awaitable, Callable
from typing import Any

from psycopg import AsyncConnection, sql

Connection = AsyncConnection[tuple[Any, ...]]


async def forward(
    reads: Connection,
    writes: Connection,
    selection: sql.Composed,
    target: sql.Composed,
    paced: Callable[[int], Awaitable[None]] | None = None,
) -> int:
    """Forward what `selection` (`COPY … TO STDOUT`) gives into `target` (`COPY … FROM STDIN`), both in binary form.
    Returns the number of rows. The transactions on both sides are the caller's. `paced` is told the size of each block,
    and returns when the next may come."""
    cursor = writes.cursor()
    async with reads.cursor().copy(selection) as source, cursor.copy(target) as sink:
        async for block in source:
            await sink.write(block)
            if paced is not None:
                await paced(len(block))
    return cursor.rowcount
