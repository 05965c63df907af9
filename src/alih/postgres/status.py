"""What alih can say of a migration at this moment, read from the databases; nothing is computed twice elsewhere."""

from typing import Any

from psycopg import AsyncConnection, errors
from psycopg.rows import DictRow, dict_row

from alih.model.change import Lsn
from alih.model.projection import Direction
from alih.model.stream import Identity, Stored, StreamState, state_of
from alih.postgres import condition
from alih.postgres.sql import query

Connection = AsyncConnection[tuple[Any, ...]]


async def stream(reads: Connection, writes: Connection, direction: Direction) -> DictRow | None:
    """State, lag, position, budget of the slot, chunks and the last verdict of one direction; None before it was set
    up. Raises Retryable if the reading side is a standby."""
    try:
        found = await _rows(writes, "status_stream", direction=direction.value)
    except errors.UndefinedTable:
        return None
    if not found:
        return None
    status = found[0]
    stored = Stored(
        Identity(status.pop("system_id"), status.pop("timeline")),
        Lsn.parse(status["position"]),
        status.pop("publication"),
    )
    slot = status.pop("slot")
    seen, budget = await condition.look(reads, slot, slot)
    status["state"] = _state(StreamState(status["state"]), state_of(stored, seen)).value
    chunks = await _rows(writes, "status_chunks", direction=direction.value)
    verdict = await _rows(writes, "status_verdict", direction=direction.value)
    copy = await _rows(writes, "status_copy", direction=direction.value)
    done = {"copy": copy[0]} if copy else {}
    return status | dict(budget) | done | {"chunks": chunks, "verdict": verdict[0] if verdict else None}


def _state(said: StreamState, seen: StreamState) -> StreamState:
    """What the stream said last, unless a look finds that it cannot go on: nobody may be following it."""
    return said if seen is StreamState.FOLLOWING else seen


async def _rows(connection: Connection, name: str, **parameters: str) -> list[DictRow]:
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query(name), parameters)
        return await cursor.fetchall()
