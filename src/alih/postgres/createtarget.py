"""Make tables on the target that are identical to the source's, for a migration between equal schemas.

Carried: columns, defaults, NOT NULL, generated columns, primary and unique keys, checks, indexes. What is not carried
is returned, line by line, for the operator to read.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from psycopg import AsyncConnection, sql

from alih.errors import NeedsOperator
from alih.model.contract import Table
from alih.postgres.sql import query
from alih.postgres.statements import trusted

Connection = AsyncConnection[Any]
Shape = Mapping[str, Any]

_CARRIED = "puc"  # pg_constraint.contype: primary key, unique, check


async def create(source_conn: Connection, target_conn: Connection, tables: Iterable[Table]) -> list[str]:
    """Make each of `tables` that the target lacks, all or none; a table that is there is left as it is.

    Returns what was not carried, one line each. Raises NeedsOperator when the source has no such plain table.
    """
    left: list[str] = []
    async with target_conn.transaction():
        for table in tables:
            shape = await _shape(source_conn, table)
            cursor = await target_conn.execute(
                "SELECT to_regclass(format('%%I.%%I', %s::text, %s::text)) IS NOT NULL", (table.schema, table.name)
            )
            row = await cursor.fetchone()
            if row is not None and row[0]:
                left.append(f"{table}: is there already and was left as it is")
                continue
            await _schema(target_conn, table.schema)
            for statement in _statements(table, shape):
                await target_conn.execute(statement)
            left += [f"{table}: {line}" for line in _not_carried(shape)]
    return left


async def _schema(conn: Connection, schema: str) -> None:
    """IF NOT EXISTS would ask for the right to make schemas even where there is nothing to make."""
    cursor = await conn.execute("SELECT FROM pg_namespace WHERE nspname = %s", (schema,))
    if await cursor.fetchone() is None:
        await conn.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(schema)))


async def _shape(conn: Connection, table: Table) -> Shape:
    async with conn.transaction(force_rollback=True):
        await conn.execute("SET LOCAL search_path = ''")
        cursor = await conn.execute(query("createtarget_table"), {"schema": table.schema, "name": table.name})
        row = await cursor.fetchone()
    if row is None or row[0]["kind"] != "r":
        raise NeedsOperator(
            f"the source has no plain table {table}", remedy="name its tables in the contract, then run again"
        )
    shape: Shape = row[0]
    return shape


def _statements(table: Table, shape: Shape) -> Iterator[sql.Composed]:
    name = sql.Identifier(table.schema, table.name)
    columns = sql.SQL(", ").join(_column(c) for c in shape["columns"])
    yield sql.SQL("CREATE TABLE {} ({})").format(name, columns)
    for constraint in shape["constraints"]:
        if constraint["kind"] in _CARRIED:
            yield sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(
                name, sql.Identifier(constraint["name"]), trusted(constraint["definition"])
            )
    for index in shape["indexes"]:
        yield sql.SQL("{}").format(trusted(index))


def _column(column: Shape) -> sql.Composed:
    parts: list[sql.Composable] = [sql.Identifier(column["name"]), trusted(column["type"])]
    if column["generated"]:
        kind = "STORED" if column["generated"] == "s" else "VIRTUAL"
        parts.append(sql.SQL("GENERATED ALWAYS AS ({}) {}").format(trusted(column["default"]), trusted(kind)))
    elif column["default"] is not None and not _draws(column):
        parts.append(sql.SQL("DEFAULT {}").format(trusted(column["default"])))
    if column["not_null"]:
        parts.append(sql.SQL("NOT NULL"))
    return sql.SQL(" ").join(parts)


def _draws(column: Shape) -> bool:
    """Whether the default draws from a sequence."""
    return "nextval(" in (column["default"] or "")


def _not_carried(shape: Shape) -> Iterator[str]:
    for column in shape["columns"]:
        if column["identity"] or _draws(column):
            yield f"column {column['name']} draws from a sequence at the source; its numbers cross, new ones do not"
    for constraint in shape["constraints"]:
        if constraint["kind"] == "f":
            yield f"foreign key {constraint['name']} ({constraint['definition']})"
        elif constraint["kind"] == "x":
            yield f"exclusion constraint {constraint['name']}"
    for trigger in shape["triggers"]:
        yield f"trigger {trigger}"
    if shape["row_security"]:
        yield "row security and its policies"
    yield "privileges and owner"
