"""The link tables: which row of the source is which row of the target, for rows that exist on both sides."""

from collections.abc import Iterable
from typing import Any, LiteralString

from psycopg import AsyncConnection, errors

from alih.errors import NeedsOperator
from alih.model.contract import Entity
from alih.model.projection import Direction
from alih.postgres.statements import trusted

Connection = AsyncConnection[tuple[Any, ...]]


async def refresh(source: Connection, target: Connection, entities: Iterable[Entity]) -> None:
    """Read the contract's links on the target and keep them in both databases; known ones stay as they are.

    Raises NeedsOperator if an id is linked twice, or otherwise than before: then rows would cross to another account.
    """
    for entity in entities:
        if entity.link is None:
            continue
        rows = await (await target.execute(trusted(entity.link))).fetchall()
        pairs = [(str(source_id), str(target_id)) for source_id, target_id in rows]
        for connection in (source, target):
            await _keep(connection, entity.name, pairs)


async def _keep(connection: Connection, entity: str, pairs: list[tuple[str, str]]) -> None:
    ours, theirs = [ours for ours, _ in pairs], [theirs for _, theirs in pairs]
    try:
        cursor = await connection.execute(
            "INSERT INTO alih.link (entity, source_id, target_id)"
            " SELECT %s, * FROM unnest(%s::text[], %s::text[]) ON CONFLICT (entity, source_id)"
            " DO UPDATE SET target_id = excluded.target_id WHERE link.target_id = excluded.target_id",
            (entity, ours, theirs),
        )
    except (errors.UniqueViolation, errors.CardinalityViolation):
        raise _ambiguous(entity) from None
    if cursor.rowcount != len(pairs):
        raise _ambiguous(entity)


def _ambiguous(entity: str) -> NeedsOperator:
    return NeedsOperator(
        f"the link of {entity} is not one to one, or has changed since rows crossed by it",
        remedy="correct the rows that the entity's `link:` query reads on the target, then run again",
    )


async def one(target: Connection, entity: str, identifier: str, direction: Direction) -> str | None:
    """The other side's id of one row; None if it is not linked."""
    if direction is Direction.FORWARD:
        query: LiteralString = "SELECT target_id FROM alih.link WHERE entity = %s AND source_id = %s"
    else:
        query = "SELECT source_id FROM alih.link WHERE entity = %s AND target_id = %s"
    row = await (await target.execute(query, (entity, identifier))).fetchone()
    return row[0] if row else None
