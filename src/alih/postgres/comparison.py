"""The queries that hash one entity's rows on either side, so that equal rows give equal numbers.

Both sides hash the mapped values, cast to the writing side's types; `r` is a row of the reading side, `w` one of the
writing side. A row's hash is `hash_record_extended` over its values, seeded with its key: rows that exchange a value
change both their hashes, so a sum over many rows sees it. What PostgreSQL's own hash of a type does not tell apart (±0,
the scale of a number, the upper half of a bigint, a char's blanks, collations) is hashed in the form in which
it is sent, or as text. That all this is the same on two servers is not promised: `Verifier.prepare` tries it (VECTOR).
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from psycopg import sql

from alih.model.contract import Scope
from alih.model.projection import Assignment, Projection
from alih.model.side import SHARED
from alih.postgres.statements import table, trusted

PINNED = (
    "SET datestyle = 'ISO, YMD'",
    "SET intervalstyle = 'iso_8601'",
    "SET timezone = 'UTC'",
    "SET extra_float_digits = 1",
    "SET bytea_output = 'hex'",
    "SET jit = off",
    "SET lock_timeout = '60s'",
)
"""Settings that decide how values are printed, the same on both connections."""

_RAW = frozenset({"boolean", "smallint", "integer", "date", "uuid", "bytea"})
"""Types whose equality is identity, and whose hash takes all of a value."""
_TEXTS = frozenset({"text", "character varying"})
_SENT = {
    "bigint": "int8send",
    "numeric": "numeric_send",
    "real": "float4send",
    "double precision": "float8send",
    "timestamp without time zone": "timestamp_send",
    "timestamp with time zone": "timestamptz_send",
    "bpchar": "bpcharsend",
    "character": "bpcharsend",
}

VECTOR = (
    "SELECT hash_record_extended(ROW(true, 7::smallint, 70000, '2024-02-29'::date,"
    " '3f333df6-90a4-4fda-8dd3-9485d27cee36'::uuid, '\\xdeadbeef'::bytea, 'Sepatu é'::text COLLATE \"C\","
    " int8send(4294967297), numeric_send(145000.00), float4send('-0'), float8send('NaN'),"
    " timestamp_send('1999-12-31 23:59:59.999999'), timestamptz_send('infinity'), bpcharsend('a '::char(3)),"
    " NULL::text), 7), hash_record_extended(ROW('x'::text), 0), hashint8extended(-4294967297, 0)"
)
"""What a server gives here, another has to give too: then it hashes as that one does."""


@dataclass(frozen=True)
class HashedSide:
    """One side's view of an entity: where its rows are, which of them count, and how they are hashed."""

    source: sql.Composed  # table and alias
    key: tuple[sql.Composable, ...]  # key values as text, in the writing side's terms
    own_key: tuple[tuple[sql.Composable, str], ...]  # this side's own key columns with their types
    seed: sql.Composable  # a bigint made of the key
    values: tuple[sql.Composable, ...]  # one for each assignment
    ours: sql.Composable
    tenant: sql.Composable | None  # None where the rows are no tenant's
    owner: sql.Composable

    def total(self, tenants: Sequence[str] | None) -> sql.Composed:
        """(rows, all their hashes in one)."""
        return sql.SQL("SELECT count(*), coalesce(bit_xor({}), 0) FROM {} WHERE {}").format(
            self._hash, self.source, self._counted(tenants)
        )

    def buckets(self, count: int, tenants: Sequence[str] | None) -> sql.Composed:
        """(bucket, rows, their hashes in one) of each of `count` buckets (a power of two) that has rows, in order."""
        return sql.SQL("SELECT {} AS bucket, count(*), bit_xor({}) FROM {} WHERE {} GROUP BY 1 ORDER BY 1").format(
            self._bucket(count), self._hash, self.source, self._counted(tenants)
        )

    def rows_of(
        self, buckets: Sequence[int], count: int, after: int | None, tenants: Sequence[str] | None
    ) -> sql.Composed:
        """(place, key in the writing side's terms, own key, hash) of the rows in these of `count` buckets, in the order
        of their places; only what comes after the place `after`."""
        return sql.SQL(
            "SELECT {place}, {key}, {own}, {hash} FROM {source} WHERE {counted} AND {bucket} = ANY({buckets})"
            " {after} ORDER BY 1"
        ).format(
            place=self._place,
            key=self._key_array,
            own=self._own_key_array,
            hash=self._hash,
            source=self.source,
            counted=self._counted(tenants),
            bucket=self._bucket(count),
            buckets=sql.Literal(list(buckets)),
            after=sql.SQL("") if after is None else sql.SQL("AND {} > {}").format(self._place, sql.Literal(after)),
        )

    def images(self, own_keys: Sequence[Sequence[str]]) -> sql.Composed:
        """(key in the writing side's terms, hash, hash of each column, tenant) of the rows with these own keys."""
        return sql.SQL("{} {}").format(self._image, self.by_own_key(own_keys))

    def hashes(self) -> sql.Composed:
        """(key, hash) of all rows there are, whosesoever."""
        return sql.SQL("SELECT {}, {} FROM {}").format(self._key_array, self._hash, self.source)

    def images_scanned(self, keys: Sequence[Sequence[str]]) -> sql.Composed:
        """The same of rows that are known by the other side's key only."""
        return sql.SQL("{} {}").format(self._image, self.by_key(keys))

    def by_own_key(self, own_keys: Sequence[Sequence[str]]) -> sql.Composed:
        """FROM and WHERE: the rows with these own keys, by the index of the key."""
        keys, same = self.matched(own_keys)
        return sql.SQL("FROM {} JOIN {} ON {} WHERE {}").format(keys, self.source, same, self.ours)

    def matched(self, own_keys: Sequence[Sequence[str]]) -> tuple[sql.Composed, sql.Composed]:
        """These own keys as rows, and the condition that joins the table to them."""
        arrays = [
            sql.SQL("{}::text[]::{}[]").format(sql.Literal([key[i] for key in own_keys]), trusted(type_))
            for i, (_, type_) in enumerate(self.own_key)
        ]
        names = [sql.Identifier(f"k{i}") for i in range(len(self.own_key))]
        same = [
            sql.SQL("{} = k.{}").format(column, name) for (column, _), name in zip(self.own_key, names, strict=True)
        ]
        rows = sql.SQL("unnest({}) AS k({})").format(sql.SQL(", ").join(arrays), sql.SQL(", ").join(names))
        return rows, sql.SQL(" AND ").join(same)

    def by_key(self, keys: Sequence[Sequence[str]]) -> sql.Composed:
        """FROM and WHERE: the rows with these keys of the writing side; reads the whole table."""
        return sql.SQL(
            "FROM {} WHERE {} AND {} IN (SELECT ARRAY(SELECT jsonb_array_elements_text(k))"
            " FROM jsonb_array_elements({}::jsonb) k)"
        ).format(self.source, self.ours, self._key_array, sql.Literal(json.dumps([list(k) for k in keys])))

    def _counted(self, tenants: Sequence[str] | None) -> sql.Composed:
        if tenants is None or self.tenant is None:
            return sql.SQL("{}").format(self.ours)
        return sql.SQL("{} AND {} = ANY({}::text[])").format(self.ours, self.tenant, sql.Literal(list(tenants)))

    def _bucket(self, count: int) -> sql.Composed:
        return sql.SQL("({} & {})").format(self._place, sql.Literal(count - 1))

    @cached_property
    def _place(self) -> sql.Composed:
        return sql.SQL("hashint8extended({}, 0)").format(self.seed)

    @cached_property
    def _hash(self) -> sql.Composed:
        return sql.SQL("hash_record_extended(ROW({}), {})").format(sql.SQL(", ").join(self.values), self.seed)

    @cached_property
    def _image(self) -> sql.Composed:
        columns = [sql.SQL("hash_record_extended(ROW({}), 0)").format(value) for value in self.values]
        return sql.SQL("SELECT {}, {}, ARRAY[{}]::bigint[], {}").format(
            self._key_array, self._hash, sql.SQL(", ").join(columns), self.owner
        )

    @cached_property
    def _key_array(self) -> sql.Composed:
        return sql.SQL("ARRAY[{}]").format(sql.SQL(", ").join(self.key))

    @cached_property
    def _own_key_array(self) -> sql.Composed:
        columns = [sql.SQL("({})::text").format(column) for column, _ in self.own_key]
        return sql.SQL("ARRAY[{}]").format(sql.SQL(", ").join(columns))


def reading_side(projection: Projection) -> HashedSide:
    """The rows as they would be written."""
    given = [trusted(a.sent) for a in projection.assignments]
    return HashedSide(
        source=sql.SQL("{} r").format(sql.Identifier(projection.reads.schema, projection.reads.name)),
        key=tuple(sql.SQL("({})::text").format(trusted(a.sent)) for a in projection.write_key),
        own_key=tuple((sql.SQL("r.{}").format(sql.Identifier(c.name)), c.type) for c in projection.read_key),
        seed=_seed(projection, given),
        values=_values(projection, given),
        ours=_condition(projection.reads_ours),
        tenant=_tenant(projection, projection.tenant_read),
        owner=_owner(projection, projection.tenant_read),
    )


def writing_side(projection: Projection, source: sql.Identifier | None = None) -> HashedSide:
    """The rows as they were written, or as they are to be: those of another table with the same columns."""
    given = [_written(a) for a in projection.assignments]
    key = tuple((sql.SQL("w.{}").format(sql.Identifier(a.column)), a.type) for a in projection.write_key)
    return HashedSide(
        source=sql.SQL("{} w").format(source or table(projection)),
        key=tuple(sql.SQL("({})::text").format(column) for column, _ in key),
        own_key=key,
        seed=_seed(projection, given),
        values=_values(projection, given),
        ours=_condition(projection.writes_ours),
        tenant=_tenant(projection, projection.tenant_write),
        owner=_owner(projection, projection.tenant_write),
    )


def _values(projection: Projection, given: Sequence[sql.Composable]) -> tuple[sql.Composable, ...]:
    return tuple(_exact(a, value) for a, value in zip(projection.assignments, given, strict=True))


def _exact(assignment: Assignment, value: sql.Composable) -> sql.Composable:
    """The value in a form whose hash tells all values apart, and is the same on every server."""
    kind = re.sub(r"\([^)]*\)", "", assignment.type).strip()
    if kind in _RAW:
        return value
    if kind == "bigint" and "SELECT" not in assignment.sent:  # both halves: half the work of sending it
        return sql.SQL("{0}, ({0} >> 32)::integer").format(value)
    if kind in _SENT:
        return sql.SQL("{}({})").format(sql.SQL(_SENT[kind]), value)
    text = value if kind in _TEXTS else sql.SQL("({})::text").format(value)
    return sql.SQL('({}) COLLATE "C"').format(text)


def _seed(projection: Projection, given: Sequence[sql.Composable]) -> sql.Composable:
    """A whole number that is the key, or a hash of it."""
    keys = [(a, value) for a, value in zip(projection.assignments, given, strict=True) if a.key]
    (first, value), *others = keys
    if not others and first.type in ("smallint", "integer", "bigint"):
        return value if first.type == "bigint" else sql.SQL("({})::bigint").format(value)
    return sql.SQL("hash_record_extended(ROW({}), 0)").format(sql.SQL(", ").join(_exact(a, v) for a, v in keys))


def _tenant(projection: Projection, tenant: str | None) -> sql.Composable | None:
    return trusted(tenant) if tenant and projection.scope is Scope.TENANT else None


def _owner(projection: Projection, tenant: str | None) -> sql.Composable:
    """Under which name the row is turned over to the other side; NULL where it never is."""
    if projection.scope is Scope.SHARED:
        return sql.SQL("{}::text").format(sql.Literal(SHARED))
    return sql.SQL("({})::text").format(_tenant(projection, tenant) or sql.SQL("NULL"))


def _written(assignment: Assignment) -> sql.Composable:
    """A column that keeps what the other side cannot hold is compared by what the other side can hold of it."""
    if assignment.update is not None and assignment.returned is not None:
        return trusted(assignment.returned)
    return sql.SQL("w.{}").format(sql.Identifier(assignment.column))


def _condition(ours: str | None) -> sql.Composable:
    return sql.SQL("({})").format(trusted(ours)) if ours else sql.SQL("true")
