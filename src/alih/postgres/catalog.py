"""Read a database's schema into values."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row

from alih.model.catalog import (
    Catalog,
    ColumnInfo,
    ForeignKey,
    ReplicaIdentity,
    TableInfo,
    TableKind,
    TypeInfo,
    TypeKind,
)
from alih.model.contract import Table
from alih.postgres.sql import query

OWN_SCHEMA = "alih"

Rows = Mapping[Table, Sequence[DictRow]]


async def read(conn: AsyncConnection[Any], schemas: Sequence[str] = ("public",)) -> Catalog:
    """The tables of `schemas` (alih's own is left out) and the server's identity; changes nothing.

    Needs no right but to connect. Seen in one transaction, which is rolled back, the search path with it.
    """
    wanted = [s for s in schemas if s != OWN_SCHEMA]
    async with conn.transaction(force_rollback=True), conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute("SET LOCAL search_path = ''")
        rows = {}
        for name in ("catalog_tables", "catalog_columns", "catalog_keys", "catalog_foreign_keys"):
            await cursor.execute(query(name), {"schemas": wanted})
            rows[name] = await cursor.fetchall()
        await cursor.execute(query("catalog_types"), {})
        types = [_type(row) for row in await cursor.fetchall()]
        await cursor.execute(query("catalog_server"))
        server = await cursor.fetchone()
    if server is None:
        raise AssertionError("a query without FROM gives one row")
    by_table = [_by_table(rows[n]) for n in ("catalog_columns", "catalog_keys", "catalog_foreign_keys")]
    tables = [
        _table(row, *(group[Table(row["schema"], row["name"])] for group in by_table)) for row in rows["catalog_tables"]
    ]
    return Catalog(
        tables=MappingProxyType({t.table: t for t in tables}),
        types=MappingProxyType({t.name: t for t in types}),
        **server,
    )


def _type(row: DictRow) -> TypeInfo:
    return TypeInfo(
        name=row["name"],
        kind=TypeKind(row["kind"]),
        made_of=tuple(row["made_of"]),
        parts=tuple(row["parts"]),
        binary=row["binary"],
    )


def _by_table(rows: Sequence[DictRow]) -> Rows:
    grouped: defaultdict[Table, list[DictRow]] = defaultdict(list)
    for row in rows:
        grouped[Table(row.pop("schema"), row.pop("table"))].append(row)
    return grouped


def _table(row: DictRow, columns: Sequence[DictRow], keys: Sequence[DictRow], foreign: Sequence[DictRow]) -> TableInfo:
    primary = next((tuple(k["columns"]) for k in keys if k["is_primary"]), ())
    identity = ReplicaIdentity(row["replica_identity"])
    return TableInfo(
        table=Table(row["schema"], row["name"]),
        columns=tuple(_column(c) for c in columns),
        primary_key=primary,
        unique_keys=tuple(tuple(k["columns"]) for k in keys if not k["is_primary"]),
        foreign_keys=tuple(_foreign_key(f) for f in foreign),
        replica_identity=identity,
        identity_columns=_identity_columns(identity, primary, keys),
        kind=TableKind(row["kind"]),
        inherits=row["inherits"],
        partition=row["partition"],
        odd_partitions=tuple(row["odd_partitions"]),
        owner=row["owner"],
        row_estimate=row["row_estimate"],
        row_security=row["row_security"],
    )


def _identity_columns(identity: ReplicaIdentity, primary: tuple[str, ...], keys: Sequence[DictRow]) -> tuple[str, ...]:
    if identity is ReplicaIdentity.DEFAULT:
        return primary
    if identity is ReplicaIdentity.INDEX:
        return next((tuple(k["columns"]) for k in keys if k["is_identity"]), ())
    return ()


def _column(row: DictRow) -> ColumnInfo:
    return ColumnInfo(**{**row, "kind": TypeKind(row["kind"])})


def _foreign_key(row: DictRow) -> ForeignKey:
    return ForeignKey(
        name=row["name"],
        columns=tuple(row["columns"]),
        references=Table(row["references_schema"], row["references_table"]),
        referenced=tuple(row["referenced"]),
    )
