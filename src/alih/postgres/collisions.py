"""Says which row stands in the way of a row that crosses: by constraint and keys, never by other values.

A value that has to be unique is on the target already, in a row that this stream did not write. Nothing is ignored and
nothing replaced: the stream stops until a person has decided whose row it is.
"""

from typing import Any

from psycopg import AsyncConnection, errors, sql

from alih.errors import NeedsOperator
from alih.model.projection import Projection
from alih.postgres.session import only_row
from alih.postgres.sql import query
from alih.postgres.statements import Statements, table, trusted

Connection = AsyncConnection[tuple[Any, ...]]


class CollisionError(NeedsOperator):
    """A row of the writing side has a unique value of a row that crosses."""


async def collision(
    connection: Connection, statements: Statements, violation: errors.UniqueViolation
) -> CollisionError:
    """The error to raise for the one row that is staged in this transaction."""
    projection = statements.projection
    crossing = await _one(connection, _staged_key(statements))
    standing = await _one(connection, await _in_the_way(connection, statements, violation))
    return CollisionError(
        f"{projection.entity}: a row that alih did not write stands in the way of {crossing or 'a row'}:"
        f" {standing or 'a row'} of {projection.writes} has the same value"
        f" (constraint {violation.diag.constraint_name})",
        remedy="decide whose row it is: remove or re-key one of the two, or link or offset them in the contract",
    )


def _staged_key(statements: Statements) -> sql.Composed:
    key = sql.SQL(" || '/' || ").join(
        sql.SQL("({})::text").format(trusted(a.sql)) for a in statements.projection.write_key
    )
    return sql.SQL("SELECT {} FROM {} r LIMIT 1").format(key, statements.stage)


async def _in_the_way(
    connection: Connection, statements: Statements, violation: errors.UniqueViolation
) -> sql.Composed | None:
    diag, projection = violation.diag, statements.projection
    cursor = await connection.execute(
        query("unique_columns"), {"schema": diag.schema_name, "name": diag.constraint_name}
    )
    (names,) = await only_row(cursor)
    made = {a.column: a.sql for a in projection.assignments}
    if not names or not made.keys() >= set(names):
        return None
    key = sql.SQL(" || '/' || ").join(sql.SQL("(w.{})::text").format(sql.Identifier(k)) for k in _key(projection))
    same = sql.SQL(" AND ").join(
        sql.SQL("w.{} = {}").format(sql.Identifier(name), trusted(made[name])) for name in names
    )
    return sql.SQL("SELECT {} FROM {} w, {} r WHERE {} LIMIT 1").format(key, table(projection), statements.stage, same)


def _key(projection: Projection) -> list[str]:
    return [a.column for a in projection.write_key]


async def _one(connection: Connection, statement: sql.Composed | None) -> str | None:
    if statement is None:
        return None
    row = await (await connection.execute(statement)).fetchone()
    return str(row[0]) if row else None
