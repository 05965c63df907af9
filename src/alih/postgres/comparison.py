"""The queries that hash one entity's rows on either side, so that equal rows give equal numbers.

A row is hashed as the text of a record of the mapped values, cast to the writing side's types on both sides.
`r` is a row of the reading side, `w` one of the writing side.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from psycopg import sql

from alih.model.contract import Scope
from alih.model.projection import Projection
from alih.postgres.statements import table, trusted

BUCKETS = 4096

PINNED = (
    "SET datestyle = 'ISO, YMD'",
    "SET intervalstyle = 'iso_8601'",
    "SET timezone = 'UTC'",
    "SET extra_float_digits = 1",
    "SET bytea_output = 'hex'",
)
"""Settings that decide how values are printed, the same on both connections."""


@dataclass(frozen=True)
class HashedSide:
    """One side's view of an entity: where its rows are, which of them count, and how they are hashed."""

    source: sql.Composed  # table and alias
    key: tuple[sql.Composable, ...]  # key values as text, in the writing side's terms
    own_key: tuple[tuple[sql.Composable, str], ...]  # this side's own key columns with their types
    row: sql.Composed  # the record's text
    ours: sql.Composable
    tenant: sql.Composable | None
    alias: str

    def buckets(self, tenants: Sequence[str] | None) -> sql.Composed:
        """(bucket, rows, sum of hashes) of every bucket that has rows."""
        return sql.SQL(
            "SELECT bucket, count(*), sum(hash)::text"
            " FROM (SELECT {} AS bucket, {} AS hash FROM {} WHERE {}) x GROUP BY 1"
        ).format(self._bucket, self._hash, self.source, self._counted(tenants))

    def rows_of(self, buckets: Sequence[int], tenants: Sequence[str] | None) -> sql.Composed:
        """(key in the writing side's terms, own key, hash) of the rows in these buckets."""
        return sql.SQL("SELECT {}, {}, {} FROM {} WHERE {} AND {} = ANY({})").format(
            self._key_array,
            self._own_key_array,
            self._hash,
            self.source,
            self._counted(tenants),
            self._bucket,
            sql.Literal(list(buckets)),
        )

    def images(self, own_keys: Sequence[Sequence[str]]) -> sql.Composed:
        """(own key, hash, xmin) of the rows with these keys, by the index of the key."""
        arrays = [
            sql.SQL("{}::text[]::{}[]").format(sql.Literal([key[i] for key in own_keys]), trusted(type_))
            for i, (_, type_) in enumerate(self.own_key)
        ]
        names = [sql.Identifier(f"k{i}") for i in range(len(self.own_key))]
        same = [
            sql.SQL("{} = k.{}").format(column, name) for (column, _), name in zip(self.own_key, names, strict=True)
        ]
        return sql.SQL("SELECT {}, {}, {}.xmin::text::bigint FROM unnest({}) AS k({}) JOIN {} ON {} WHERE {}").format(
            self._own_key_array,
            self._hash,
            sql.SQL(self.alias),
            sql.SQL(", ").join(arrays),
            sql.SQL(", ").join(names),
            self.source,
            sql.SQL(" AND ").join(same),
            self.ours,
        )

    def scanned(self, keys: Sequence[Sequence[str]]) -> sql.Composed:
        """(key in the writing side's terms, own key) of rows that are known by the other side's key only."""
        return sql.SQL("SELECT {key}, {own} FROM {source} WHERE {key} IN ({keys})").format(
            key=self._key_array,
            own=self._own_key_array,
            source=self.source,
            keys=sql.SQL(", ").join(sql.SQL("{}::text[]").format(sql.Literal(list(key))) for key in keys),
        )

    def _counted(self, tenants: Sequence[str] | None) -> sql.Composed:
        if tenants is None or self.tenant is None:
            return sql.SQL("{}").format(self.ours)
        return sql.SQL("{} AND {} = ANY({}::text[])").format(self.ours, self.tenant, sql.Literal(list(tenants)))

    @cached_property
    def _bucket(self) -> sql.Composed:
        return sql.SQL("hashtextextended({}::text, 0) & {}").format(self._key_array, sql.Literal(BUCKETS - 1))

    @cached_property
    def _hash(self) -> sql.Composed:
        return sql.SQL("hashtextextended({}, 0)").format(self.row)

    @cached_property
    def _key_array(self) -> sql.Composed:
        return sql.SQL("ARRAY[{}]").format(sql.SQL(", ").join(self.key))

    @cached_property
    def _own_key_array(self) -> sql.Composed:
        columns = [sql.SQL("({})::text").format(column) for column, _ in self.own_key]
        return sql.SQL("ARRAY[{}]").format(sql.SQL(", ").join(columns))


def reading_side(projection: Projection) -> HashedSide:
    """The rows as they would be written."""
    tenant = projection.tenant_read if projection.scope is Scope.TENANT else None
    return HashedSide(
        source=sql.SQL("{} r").format(sql.Identifier(projection.reads.schema, projection.reads.name)),
        key=tuple(sql.SQL("({})::text").format(trusted(a.sent)) for a in projection.write_key),
        own_key=tuple((sql.SQL("r.{}").format(sql.Identifier(c.name)), c.type) for c in projection.read_key),
        row=_record([trusted(a.sent) for a in projection.assignments]),
        ours=_condition(projection.reads_ours),
        tenant=trusted(tenant) if tenant else None,
        alias="r",
    )


def writing_side(projection: Projection) -> HashedSide:
    """The rows as they were written."""
    tenant = projection.tenant_write if projection.scope is Scope.TENANT else None
    key = tuple((sql.SQL("w.{}").format(sql.Identifier(a.column)), a.type) for a in projection.write_key)
    return HashedSide(
        source=sql.SQL("{} w").format(table(projection)),
        key=tuple(sql.SQL("({})::text").format(column) for column, _ in key),
        own_key=key,
        row=_record([sql.SQL("w.{}").format(sql.Identifier(a.column)) for a in projection.assignments]),
        ours=_condition(projection.writes_ours),
        tenant=trusted(tenant) if tenant else None,
        alias="w",
    )


def _record(values: Sequence[sql.Composable]) -> sql.Composed:
    return sql.SQL("ROW({})::text").format(sql.SQL(", ").join(values))


def _condition(ours: str | None) -> sql.Composable:
    return sql.SQL("({})").format(trusted(ours)) if ours else sql.SQL("true")
