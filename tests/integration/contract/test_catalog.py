"""The catalog as values, read by a role that may do nothing but connect."""

import pytest

from alih.model.catalog import ColumnInfo, ForeignKey, ReplicaIdentity, TableKind, TypeInfo, TypeKind
from alih.model.contract import Table
from alih.postgres import catalog
from tests.integration.contract.two_shops import connected, rows
from tests.support.databases import Databases

pytestmark = pytest.mark.anyio

TABLES = """
    CREATE TYPE mood AS ENUM ('sad');
    CREATE DOMAIN rupiah AS bigint; CREATE DOMAIN rasa AS mood;
    CREATE TYPE "Pair" AS (a varchar(3), b mood[]); CREATE TYPE span AS RANGE (SUBTYPE = float8);
    CREATE TABLE parent (a integer NOT NULL, b integer NOT NULL, PRIMARY KEY (b, a));
    CREATE TABLE child (
        id bigint GENERATED ALWAYS AS IDENTITY, label varchar(20) DEFAULT 'x' NOT NULL, code char(3), moods mood[],
        price rupiah, made timestamptz(3), twice integer GENERATED ALWAYS AS (a * 2) STORED, a integer, b integer,
        word text UNIQUE, UNIQUE (a, b), FOREIGN KEY (b, a) REFERENCES parent);
    CREATE UNIQUE INDEX half ON child (a) WHERE a > 0;
    CREATE UNIQUE INDEX lower_word ON child (lower(word));
    CREATE UNIQUE INDEX by_id ON child (id) INCLUDE (label);
    ALTER TABLE child REPLICA IDENTITY USING INDEX by_id;
    CREATE TABLE sliced (a integer) PARTITION BY LIST (a);
    CREATE TABLE slice PARTITION OF sliced FOR VALUES IN (1);
    CREATE TABLE sore_slice PARTITION OF sliced FOR VALUES IN (2);
    ALTER TABLE sore_slice REPLICA IDENTITY FULL;
    CREATE TABLE elder (a integer); CREATE TABLE heir () INHERITS (elder);
    CREATE VIEW seen AS SELECT 1 AS one;
    CREATE SCHEMA alih; CREATE TABLE alih.link (a integer);
    CREATE SCHEMA other; CREATE TABLE other.thing (a integer);
    CREATE ROLE stranger LOGIN;
"""


NAMES = ("child", "elder", "heir", "parent", "seen", "slice", "sliced", "sore_slice")


async def test_a_strangers_view_of_the_schema(databases: Databases) -> None:
    async with connected(databases.source) as admin:
        await admin.execute(TABLES)
        [(version,)] = await rows(admin, "SHOW server_version_num")
    async with connected(f"{databases.source} user=stranger") as stranger:
        found = await catalog.read(stranger, ("public", "alih"))
        assert await rows(stranger, "SHOW search_path") == [('"$user", public',)]
    assert found.server_version == int(version)
    assert found.system_identifier.isdecimal()
    assert [str(t) for t in found.tables] == [f"public.{n}" for n in NAMES]
    child = found.tables[Table("public", "child")]
    assert child.columns == (
        ColumnInfo(name="id", type="bigint", full_type="bigint", not_null=True, identity=True, always=True),
        ColumnInfo(
            name="label",
            type="character varying",
            full_type="character varying(20)",
            not_null=True,
            default="'x'::character varying",
        ),
        ColumnInfo(name="code", type="bpchar", full_type="character(3)"),
        ColumnInfo(name="moods", type="public.mood[]", full_type="public.mood[]", kind=TypeKind.ENUM, array=True),
        ColumnInfo(name="price", type="public.rupiah", full_type="public.rupiah", kind=TypeKind.DOMAIN),
        ColumnInfo(name="made", type="timestamp with time zone", full_type="timestamp(3) with time zone"),
        ColumnInfo(name="twice", type="integer", full_type="integer", generated=True),
        ColumnInfo(name="a", type="integer", full_type="integer"),
        ColumnInfo(name="b", type="integer", full_type="integer"),
        ColumnInfo(name="word", type="text", full_type="text"),
    )
    assert (child.primary_key, child.keys) == ((), (("id",),))
    assert child.unique_keys == (("id",), ("a", "b"), ("word",))
    assert (child.replica_identity, child.identity_columns) == (ReplicaIdentity.INDEX, ("id",))
    assert child.foreign_keys == (
        ForeignKey(
            name="child_b_a_fkey", columns=("b", "a"), references=Table("public", "parent"), referenced=("b", "a")
        ),
    )
    parent = found.tables[Table("public", "parent")]
    assert (parent.primary_key, parent.identity_columns, parent.inherits) == (("b", "a"), ("b", "a"), False)
    kinds = {t.table.name: (t.kind, t.partition, t.inherits) for t in found.tables.values()}
    assert kinds["sliced"] == (TableKind.PARTITIONED, False, False)
    assert kinds["slice"] == (TableKind.TABLE, True, False)
    assert kinds["seen"] == (TableKind.VIEW, False, False)
    assert kinds["heir"] == kinds["elder"] == (TableKind.TABLE, False, True)
    assert found.tables[Table("public", "sliced")].odd_partitions == ("public.sore_slice",)
    assert [t for t in found.types.values() if t.name.startswith("public.")] == [
        TypeInfo(
            name='public."Pair"',
            kind=TypeKind.COMPOSITE,
            made_of=("a character varying(3)", "b public.mood[]"),
            parts=("character varying", "public.mood[]"),
        ),
        TypeInfo(name="public.mood", kind=TypeKind.ENUM, made_of=("sad",)),
        TypeInfo(name="public.rasa", kind=TypeKind.DOMAIN, made_of=("public.mood",) * 2, parts=("public.mood",)),
        TypeInfo(name="public.rupiah", kind=TypeKind.DOMAIN, made_of=("bigint", "bigint"), parts=("bigint",)),
        TypeInfo(name="public.span", kind=TypeKind.RANGE, made_of=("double precision",), parts=("double precision",)),
        TypeInfo(name="public.span_multirange", kind=TypeKind.MULTIRANGE, parts=("public.span",)),
    ]
