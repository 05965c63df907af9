"""The chunk rows and the spool in the writing side's database, and the lock under which they change.

The stream's row is the lock. A follower's batch begins with it, and a worker takes it before it changes a chunk; so
each batch stands wholly before or wholly after each change of a state, and nothing has to be locked for each chunk.
`chunk_version` grows with every change: a follower that reads the number it knows need not read the chunks again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

from psycopg import AsyncConnection

from alih.errors import Corrupt, NeedsOperator
from alih.model.change import Lsn, Row
from alih.model.chunk import ChunkState, Done, NotStarted, Snapshot, Spooling
from alih.model.projection import Direction, Projection
from alih.model.stitching import Chunk, EntityChunks
from alih.postgres.planning import Plan

Connection = AsyncConnection[tuple[Any, ...]]

CHANNEL: LiteralString = "alih_chunk"
"""Who listens is told that a chunk is done, or that there is a new one."""


@dataclass(frozen=True, slots=True)
class StreamRow:
    """What stands in the stream's row, which is held from now on until the transaction ends."""

    chunk_version: int
    dropped: frozenset[int]
    position: Lsn


async def hold_stream(connection: Connection, direction: Direction) -> StreamRow:
    """Take the stream's row. Whoever takes other locks of alih's tables takes this one first."""
    cursor = await connection.execute(
        "SELECT chunk_version, dropped, position::text FROM alih.stream WHERE direction = %s FOR NO KEY UPDATE",
        (direction.value,),
    )
    row = await cursor.fetchone()
    if row is None:
        raise NeedsOperator(f"the {direction} stream was never set up in this database", remedy="start with alih run")
    return StreamRow(row[0], frozenset(row[1]), Lsn.parse(row[2]))


async def change_version(connection: Connection, direction: Direction, dropped: Sequence[int] = ()) -> int:
    """Say that chunks have changed, and remember transactions `dropped` with them; the caller holds the stream."""
    cursor = await connection.execute(
        "UPDATE alih.stream SET chunk_version = chunk_version + 1, dropped = dropped || %s::bigint[]"
        " WHERE direction = %s RETURNING chunk_version",
        (list(dropped), direction.value),
    )
    (version,) = await cursor.fetchone() or (0,)
    await connection.execute("SELECT pg_notify(%s, '')", (CHANNEL,))
    return int(version)


async def add(connection: Connection, direction: Direction, plans: Sequence[Plan]) -> None:
    """Store the chunks of entities that have none yet; the caller holds the stream."""
    for plan in plans:
        await connection.cursor().executemany(
            "INSERT INTO alih.chunk (direction, entity, ordered_by, lower, upper, planned_bytes)"
            " VALUES (%s, %s, %s, %s, %s, %s)",
            [
                (direction.value, plan.entity, list(plan.ordered_by), _list(lower), _list(upper), plan.chunk_bytes)
                for lower, upper in plan.ranges
            ],
        )
    if plans:
        await change_version(connection, direction)


def _list(bound: Sequence[str] | None) -> list[str] | None:
    return None if bound is None else list(bound)


async def planned(connection: Connection, direction: Direction) -> set[str]:
    """The entities that have chunks."""
    cursor = await connection.execute("SELECT DISTINCT entity FROM alih.chunk WHERE direction = %s", (direction.value,))
    return {entity for (entity,) in await cursor.fetchall()}


async def add_row(connection: Connection, direction: Direction, entity: str, key: Row) -> int:
    """Have the row with this key read anew, whether or not it is a chunk of its own already; returns the chunk's id.
    The caller holds the stream, and changes its version."""
    scope = {"direction": direction.value, "entity": entity, "key": list(key)}
    again = await connection.execute(
        "UPDATE alih.chunk SET state = 'not started', snapshot = NULL, settled = NULL, done_at = NULL"
        " WHERE direction = %(direction)s AND entity = %(entity)s AND row_key = %(key)s::bytea[] RETURNING id",
        scope,
    )
    if (row := await again.fetchone()) is None:
        new = await connection.execute(
            "INSERT INTO alih.chunk (direction, entity, row_key) VALUES (%(direction)s, %(entity)s, %(key)s::bytea[])"
            " RETURNING id",
            scope,
        )
        row = await new.fetchone()
    return int(row[0]) if row else 0


async def read(
    connection: Connection, direction: Direction, projections: Mapping[str, Projection]
) -> dict[str, EntityChunks]:
    """The chunks of these entities, as far as they have any."""
    cursor = await connection.execute(
        "SELECT entity, ordered_by, id, lower, upper, row_key, state, attempt, snapshot, settled::text"
        " FROM alih.chunk WHERE direction = %s AND entity = ANY(%s)",
        (direction.value, list(projections)),
    )
    found: dict[str, tuple[list[str], list[Chunk]]] = {}
    for entity, ordered_by, *chunk in await cursor.fetchall():
        names, of_entity = found.setdefault(entity, ([], []))
        names[:] = ordered_by or names
        of_entity.append(_chunk(*chunk))
    return {
        entity: EntityChunks(projections[entity].read_columns, names, of_entity)
        for entity, (names, of_entity) in found.items()
    }


def _chunk(
    number: int,
    lower: list[str] | None,
    upper: list[str] | None,
    row_key: list[bytes] | None,
    state: str,
    attempt: int,
    snapshot: str | None,
    settled: str | None,
) -> Chunk:
    return Chunk(
        id=number,
        state=_state(state, attempt, snapshot),
        lower=lower,
        upper=upper,
        row_key=None if row_key is None else tuple(row_key),
        settled=None if settled is None else Lsn.parse(settled),
    )


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


async def pause(connection: Connection, direction: Direction, *, paused: bool) -> None:
    """Have workers begin no chunk from now on, or begin again; the connection is in autocommit."""
    cursor = await connection.execute(
        "UPDATE alih.stream SET paused = %s WHERE direction = %s RETURNING pg_notify(%s, '')",
        (paused, direction.value, CHANNEL),
    )
    if not cursor.rowcount:
        raise NeedsOperator(f"the {direction} stream was never set up in this database", remedy="start with alih run")


async def spool(connection: Connection, changes: Sequence[tuple[int, int, bytes]]) -> None:
    """Keep changes (chunk, transaction, bytes) aside, in order, in the transaction that moves the position."""
    async with connection.cursor().copy("COPY alih.spool (chunk, xid, change) FROM STDIN (FORMAT binary)") as copy:
        copy.set_types(["int8", "int8", "bytea"])
        for change in changes:
            await copy.write_row(change)
