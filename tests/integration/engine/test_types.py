"""Case 14, type drift: every type that crosses does so bit for bit: copied, followed, verified, and back again.

The two databases have the same types under other numbers (one made them in another order, after others), so whatever
carried a number would show.
"""

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import LiteralString

import pytest
from psycopg import sql

from alih.model.projection import Direction
from tests.integration.engine.world import Connection, World, equal_tables, following, rows
from tests.support.databases import Databases

pytestmark = pytest.mark.anyio

ROWS = 24

TYPES: LiteralString = """
    CREATE TYPE mood AS ENUM ('sedih', 'biasa', 'senang sekali', 'é,"{}'); CREATE DOMAIN price AS numeric(18,2);
    CREATE DOMAIN code AS varchar(6); CREATE DOMAIN feel AS mood; CREATE DOMAIN tags AS text[];
    CREATE TYPE place AS (street text, no int, feeling mood, pays price, moods mood[]);
    CREATE EXTENSION vector; CREATE TYPE span AS RANGE (SUBTYPE = float8);
"""
VALUES: dict[str, Sequence[str | None]] = {
    "mood": ["sedih", "biasa", 'é,"{}'],
    "mood[]": ['{sedih,NULL,"é,\\"{}"}', "{}", "[2:3]={sedih,biasa}", "{{sedih},{biasa}}"],
    "price": ["0.01", "-9999999999999999.99", "NaN"],
    "price[]": ["{1.50,NULL}", "{}"],
    "code": ["", "Ab ", "ééééé"],
    "feel": ["senang sekali", "biasa"],
    "feel[]": ['{"senang sekali"}', "{NULL}"],
    "tags": ['{a,NULL,""}', "{}"],
    "place": ['(Jl. "A",3,sedih,1.50,{biasa})', "(,,,,)"],
    "place[]": ['{"(x,1,sedih,0.10,{})",NULL}', "{}"],
    "span": ["[-0,1.5)", "empty", "(,)"],
    "span_multirange": ["{[1,2),[3,4)}", "{}"],
    "vector(3)": ["[1,-2.5,1e-40]"],
    "vector[]": ['{"[1,2]",NULL}'],
    "smallint": ["-32768", "32767"],
    "integer": ["-2147483648", "2147483647"],
    "bigint": ["-9223372036854775808", "9223372036854775807"],
    "numeric": ["NaN", "Infinity", "-Infinity", "0.000", "1e-16383", "123456789012345678901234567890.5"],
    "numeric(20,4)": ["NaN", "-1234567.8900", "0"],
    "numeric(5,-2)": ["9999900", "-100"],
    "real": ["-0", "0", "NaN", "Infinity", "1e-45", "3.4028235e38"],
    "double precision": ["-0", "0", "NaN", "-Infinity", "5e-324", "1.7976931348623157e308", "0.1"],
    "boolean": ["t", "f"],
    "text": ["", "NULL", "\\N", "\t\n\r", "é\U0001f600"],
    "character(5)": ["", "x", "é    "],
    "character varying(9)": ["", "abc  "],
    '"char"': ["a", ""],
    "name": ["x"],
    "bytea": ["\\x", "\\x00ff5c", "\\x504750434f50590aff0d0a00"],
    "timestamp": ["infinity", "-infinity", "4713-01-01 00:00:00 BC", "294276-12-31 23:59:59.999999", "1970-01-01"],
    "timestamptz": ["infinity", "-infinity", "4714-11-24 00:00:00+00 BC", "294276-12-31 23:59:59.999999+00"],
    "date": ["infinity", "-infinity", "4713-01-01 BC", "5874897-12-31", "2000-01-01"],
    "time": ["00:00", "24:00", "23:59:59.999999"],
    "timetz": ["00:00+15:59", "24:00-15:59", "12:00:00.5+07"],
    "interval": ["1 mon -2 days +00:00:00.000001", "-178000000 years", "0"],
    "json": ['{"b": 1,  "a":2, "a":3}', "null", '"\\u00e9"'],
    "jsonb": ['{"b": 1.00, "a": null}', "null", "[]", "1e400"],
    "uuid": ["00000000-0000-0000-0000-000000000001"],
    "inet": ["10.0.0.1/8", "::1", "0.0.0.0/0"],
    "cidr": ["10.0.0.0/8", "::/0"],
    "macaddr": ["08:00:2b:01:02:03"],
    "macaddr8": ["08:00:2b:01:02:03:04:05"],
    "bit(9)": ["101010101", "000000000"],
    "bit varying(20)": ["", "1", "01010"],
    "int4range": ["[1,5)", "empty", "(,)"],
    "numrange": ["[1.50,2)", "(,NaN]"],
    "tstzrange": ["[-infinity,infinity]", "empty"],
    "daterange": ["[2023-12-12,2024-04-12)"],
    "int8multirange": ["{[1,3),[7,9)}", "{}"],
    "tsvector": ["'a':1A 'b'", ""],
    "tsquery": ["'a' & !'b'"],
    "point": ["(-0,1e-300)"],
    "box": ["(1,1),(0,0)"],
    "path": ["((0,0),(1,1))", "[(0,0)]"],
    "pg_lsn": ["16/B374D848"],
    "int[]": ["{{1,2},{3,NULL}}", "[-1:0]={1,2}"],
    "timestamptz[]": ['{infinity,"294276-12-31 23:59:59+00",NULL}'],
    "jsonb[]": ['{"{\\"a\\": 1}",NULL}'],
    "jsonpath": ['$."a"[*] ? (@ > 1)'],
}
COLUMNS = [f"c{i}" for i in range(len(VALUES))]


def table() -> LiteralString:
    columns: LiteralString = ", ".join(f"c{i} {type_}" for i, type_ in enumerate(VALUES))
    return "CREATE TABLE kinds (id bigint PRIMARY KEY, shop bigint NOT NULL, " + columns + ")"


async def write(connection: Connection, dice: random.Random, first: int) -> None:
    """Insert rows of values drawn from every type's own, NULL among them; each value stands in some row."""
    names = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
    for i in range(ROWS):
        drawn = [values[i] if i < len(values) else dice.choice([*values, None]) for values in VALUES.values()]
        literals = sql.SQL(", ").join(map(sql.Literal, drawn))
        await connection.execute(
            sql.SQL("INSERT INTO kinds (id, shop, {}) VALUES ({}, 1, {})").format(
                names, sql.Literal(first + i), literals
            )
        )


async def shuffle(connection: Connection, first: int, last: int) -> None:
    """Give each of these rows another one's values."""
    pairs = sql.SQL(", ").join(sql.SQL("{0} = o.{0}").format(sql.Identifier(name)) for name in COLUMNS)
    await connection.execute(
        sql.SQL("UPDATE kinds k SET {} FROM kinds o WHERE k.id BETWEEN {} AND {} AND o.id = {} + {} - k.id").format(
            pairs, sql.Literal(first), sql.Literal(last), sql.Literal(first), sql.Literal(last)
        )
    )


async def same(world: World, first: int) -> int:
    """How many rows from `first` on there are; they have the same text on both sides."""
    texts = sql.SQL("SELECT id, k::text FROM kinds k WHERE id >= {} ORDER BY id").format(sql.Literal(first))
    for setting in ("SET timezone = 'UTC'", "SET extra_float_digits = 1"):
        for side in (world.source, world.target):
            await side.execute(setting)
    here = await (await world.source.execute(texts)).fetchall()
    assert await (await world.target.execute(texts)).fetchall() == here
    return len(here)


@pytest.mark.parametrize("seed", [20260411])
async def test_every_type_there_and_back(databases: Databases, tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    source: LiteralString = TYPES + "CREATE TABLE shops (id bigint PRIMARY KEY);" + table()
    # on the target the types have other numbers, and one enum's labels another order
    other: LiteralString = "CREATE TYPE first AS ENUM ('x'); CREATE DOMAIN second AS int;" + source.replace(
        "'sedih', 'biasa'", "'biasa', 'sedih'"
    )
    tenants = {"shops": "id", "kinds": "shop"}
    async with equal_tables(databases, tmp_path, source, tenants, others=other) as world:
        await write(world.source, dice, 1)
        await world.engine().copy()
        async with following(world.engine()):
            await write(world.source, dice, 101)
            await shuffle(world.source, 1, 12)
            await shuffle(world.source, 101, 112)
            await world.source.execute("DELETE FROM kinds WHERE id IN (2, 103)")
            await world.caught_up()
            assert await same(world, 1) == 2 * ROWS - 2
            verdict = await world.verified()
            assert (verdict.rows, verdict.clean) == (2 * ROWS - 2, True)
        await back(world, dice)


async def back(world: World, dice: random.Random) -> None:
    reverse = world.engine(Direction.REVERSE)
    reverse = replace(reverse, projections=[p for p in reverse.projections if p.entity == "kinds"])
    await reverse.open()
    for connection in (world.source, world.target):
        await connection.execute(
            "INSERT INTO alih.flow (direction, tenant, applies, epoch) SELECT 'reverse', '1', true, 2"
            " WHERE EXISTS (SELECT FROM alih.stream WHERE direction = 'reverse')"
        )
    async with following(reverse):
        await write(world.target, dice, 201)
        await shuffle(world.target, 201, 212)
        await shuffle(world.target, 3, 10)
        await world.target.execute("DELETE FROM kinds WHERE id = 205")
        await world.caught_up(Direction.REVERSE)
        assert await same(world, 1) == 3 * ROWS - 3
        async with reverse.verifier() as verifier:
            verdict = await verifier.everything()
        assert (verdict.rows, verdict.clean) == (3 * ROWS - 3, True)
    assert await rows(world.source, "SELECT count(*) FROM alih.stray") == [(0,)]
