"""The link tables: which row of the source is which row of the target, for rows that exist on both sides."""

from collections.abc import Iterable, Mapping
from typing import Any, LiteralString

from psycopg import AsyncConnection, errors, sql

from alih.errors import NeedsOperator
from alih.model.contract import Entity, Linked, Table
from alih.model.projection import Direction
from alih.postgres.session import only_row
from alih.postgres.statements import trusted

Connection = AsyncConnection[tuple[Any, ...]]
Pairs = list[tuple[str, str]]  # source id, target id

_FEW = 5


async def refresh(source: Connection, target: Connection, entities: Iterable[Entity]) -> int:
    """Read the contract's links on the target and keep them in both databases; known ones stay as they are. Gives how
    many are new.

    Raises NeedsOperator if an id is linked twice, or otherwise than before: then rows would cross to another account.
    """
    new = 0
    for entity, pairs in (await read(target, entities)).items():
        new += max([await keep(connection, entity, pairs) for connection in (source, target)])
    return new


async def read(target: Connection, entities: Iterable[Entity]) -> dict[str, Pairs]:
    """What the contract's links say now, for each entity that has one."""
    found = {}
    for entity in entities:
        if entity.link is not None:
            rows = await (await target.execute(trusted(entity.link))).fetchall()
            found[entity.name] = [(str(source_id), str(target_id)) for source_id, target_id in rows]
    return found


async def keep(connection: Connection, entity: str, pairs: Pairs) -> int:
    """Keep the pairs in this database; gives how many are new. Raises NeedsOperator as `refresh` does."""
    given = {"entity": entity, "ours": [ours for ours, _ in pairs], "theirs": [theirs for _, theirs in pairs]}
    async with connection.transaction():
        try:
            cursor = await connection.execute(
                "INSERT INTO alih.link (entity, source_id, target_id)"
                f" SELECT %(entity)s, p.ours, p.theirs {_NOT_KEPT} ON CONFLICT (entity, source_id) DO NOTHING",
                given,
            )
        except errors.UniqueViolation:
            raise _ambiguous(entity) from None
        (otherwise,) = await only_row(await connection.execute(f"SELECT count(*) {_NOT_KEPT}", given))
        if otherwise:
            raise _ambiguous(entity)
    return cursor.rowcount


_NOT_KEPT = (
    "FROM unnest(%(ours)s::text[], %(theirs)s::text[]) AS p(ours, theirs) WHERE NOT EXISTS (SELECT FROM alih.link l"
    " WHERE l.entity = %(entity)s AND l.source_id = p.ours AND l.target_id = p.theirs)"
)


def _ambiguous(entity: str) -> NeedsOperator:
    return NeedsOperator(
        f"the link of {entity} is not one to one, or has changed since rows crossed by it",
        remedy="correct the rows that the entity's `link:` query reads on the target, then run again",
    )


async def unlinked(
    reads: Connection, entities: Iterable[Entity], ours: Mapping[str, str | None], direction: Direction
) -> list[str]:
    """Ids that rows of the reading side refer to and that no link knows, as `entity id`; a few of each column.
    `ours` is each entity's `reads_ours`."""
    found: dict[str, None] = {}
    for entity in entities:
        for field in entity.fields:
            if isinstance(field.rule, Linked):
                forward = direction is Direction.FORWARD
                found |= dict.fromkeys(
                    await _unlinked(
                        reads,
                        entity.source if forward else entity.target,
                        field.rule.source if forward else field.target,
                        field.rule.entity,
                        "source_id" if forward else "target_id",
                        trusted(ours.get(entity.name) or "true"),
                    )
                )
    return list(found)


async def _unlinked(
    reads: Connection, table: Table, column: str, entity: str, side: LiteralString, ours: sql.Composable
) -> list[str]:
    statement = sql.SQL(
        "SELECT DISTINCT (r.{column})::text FROM {table} r WHERE r.{column} IS NOT NULL AND ({ours}) AND NOT EXISTS"
        " (SELECT FROM alih.link l WHERE l.entity = {entity} AND l.{side} = (r.{column})::text) ORDER BY 1 LIMIT {few}"
    ).format(
        column=sql.Identifier(column),
        table=sql.Identifier(table.schema, table.name),
        entity=sql.Literal(entity),
        side=sql.Identifier(side),
        ours=ours,
        few=sql.Literal(_FEW),
    )
    return [f"{entity} {identifier}" for (identifier,) in await (await reads.execute(statement)).fetchall()]


async def one(target: Connection, entity: str, identifier: str, direction: Direction) -> str | None:
    """The other side's id of one row; None if it is not linked."""
    if direction is Direction.FORWARD:
        query: LiteralString = "SELECT target_id FROM alih.link WHERE entity = %s AND source_id = %s"
    else:
        query = "SELECT source_id FROM alih.link WHERE entity = %s AND target_id = %s"
    row = await (await target.execute(query, (entity, identifier))).fetchone()
    return row[0] if row else None
