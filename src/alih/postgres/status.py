"""What alih can say of a migration at this moment, read from the databases; nothing is computed twice elsewhere."""

from typing import Any

from psycopg import AsyncConnection, errors
from psycopg.rows import DictRow, dict_row

from alih.model.projection import Direction
from alih.postgres.sql import query

Connection = AsyncConnection[tuple[Any, ...]]


async def stream(reads: Connection, writes: Connection, direction: Direction) -> DictRow | None:
    """Lag, position, chunks and the last verdict of one direction; None before it was set up."""
    try:
        found = await _rows(writes, "status_stream", direction=direction.value)
    except errors.UndefinedTable:
        return None
    if not found:
        return None
    status = found[0]
    (slot,) = await _rows(reads, "status_slot", slot=status.pop("slot")) or [{"lag_bytes": None, "followed": False}]
    chunks = await _rows(writes, "status_chunks", direction=direction.value)
    verdict = await _rows(writes, "status_verdict", direction=direction.value)
    copy = await _rows(writes, "status_copy", direction=direction.value)
    done = {"copy": copy[0]} if copy else {}
    return status | slot | done | {"chunks": chunks, "verdict": verdict[0] if verdict else None}


async def _rows(connection: Connection, name: str, **parameters: str) -> list[DictRow]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query(name), parameters)
        return await cursor.fetchall()
