"""Says which row stands in the way of a row that crosses: by constraint and keys, never by other values.

A value that has to be unique is on the target already, in a row that this stream did not write. Nothing is ignored and
nothing replaced: the stream stops until a person has decided whose row it is.
"""

from collections.abc import Mapping
from typing import Any

from psycopg import AsyncConnection, errors, sql

from alih.errors import NeedsOperator
from alih.postgres.session import only_row
from alih.postgres.sql import query
from alih.postgres.statements import Statements, table, trusted

Connection = AsyncConnection[tuple[Any, ...]]


class CollisionError(NeedsOperator):
    """A row of the writing side has a unique value of a row that crosses."""


async def collision(
    connection: Connection, statements: Statements, violation: errors.UniqueViolation
) -> CollisionError:
    """The error to raise for the rows that are staged in this transaction, of which one found another in its way."""
    crossing, standing = await _pair(connection, statements, violation)
    projection = statements.projection
    return CollisionError(
        f"{projection.entity}: a row that alih did not write stands in the way of {crossing}:"
        f" {standing} of {projection.writes} has the same value"
        f" (constraint {violation.diag.constraint_name})",
        remedy="decide whose row it is: remove or re-key one of the two, or link or offset them in the contract",
    )


async def _pair(connection: Connection, statements: Statements, violation: errors.UniqueViolation) -> tuple[str, str]:
    """The keys of the row that crosses and of the one that stands, as far as they can be told."""
    diag, projection = violation.diag, statements.projection
    cursor = await connection.execute(
        query("unique_columns"), {"schema": diag.schema_name, "name": diag.constraint_name}
    )
    (names,) = await only_row(cursor)
    made = {a.column: a.sql for a in projection.assignments}
    if names and made.keys() >= set(names):
        row = await (await connection.execute(_colliding(statements, {name: made[name] for name in names}))).fetchone()
        if row is not None:
            return str(row[0]), str(row[1])
    return "a row", "a row"


def _colliding(statements: Statements, made: Mapping[str, str]) -> sql.Composed:
    """Pairs of a staged row and a row with its unique values that nothing staged is going to change."""
    projection = statements.projection
    crossing = [sql.SQL("({})::text").format(trusted(a.sql)) for a in projection.write_key]
    standing = [sql.SQL("(w.{})::text").format(sql.Identifier(a.column)) for a in projection.write_key]
    same = [sql.SQL("w.{} = {}").format(sql.Identifier(name), trusted(value)) for name, value in made.items()]
    return sql.SQL(
        "SELECT {crossing}, {standing} FROM {written} w, {stage} r WHERE r._op NOT IN ('D', 'N') AND {same}"
        " AND NOT EXISTS (SELECT FROM {stage} r WHERE r._op NOT IN ('I', 'K', 'N') AND {same_key}) LIMIT 1"
    ).format(
        crossing=sql.SQL(" || '/' || ").join(crossing),
        standing=sql.SQL(" || '/' || ").join(standing),
        written=table(projection),
        stage=statements.stage,
        same=sql.SQL(" AND ").join(same),
        same_key=statements.same_key,
    )
