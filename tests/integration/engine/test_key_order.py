"""Keys are put into ranges outside the database exactly as the server orders them."""

import random
import uuid
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import LiteralString

import psycopg
import pytest
from psycopg import sql

from alih.model.chunk import NotStarted
from alih.model.projection import ReadColumn
from alih.model.stitching import Chunk, EntityChunks
from alih.postgres.sql import query

# Letters whose order differs between bytes, code units and dictionaries.
LETTERS = "aAbB zZ-_~0129éÉñäß\x7f\xff\u0100\u0800\ud7ff\ue000\uffee\U00010000\U0001f600"
Maker = Callable[[random.Random], object]


def texts(dice: random.Random) -> str:
    return "".join(dice.choices(LETTERS, k=dice.choice([0, 1, 1, 2, 3, 5])))


def integers(bits: int) -> Maker:
    most = 2 ** (bits - 1)
    edges = [-most, most - 1, 255, 256, -256, 0, -1, 1]
    return lambda dice: dice.choice([dice.randint(-most, most - 1), dice.choice(edges)])


def uuids(dice: random.Random) -> uuid.UUID:
    return uuid.UUID(bytes=bytes(dice.choice([0, 1, 127, 128, 255]) for _ in range(16)))


# The columns in the order of the key, each with its type, its collation, and how its values are made.
Column = tuple[LiteralString, LiteralString, LiteralString, Maker]
CASES: dict[str, Sequence[Column]] = {
    "smallint": [("a", "smallint", "", integers(16))],
    "integer": [("a", "integer", "", integers(32))],
    "bigint": [("a", "bigint", "", integers(64))],
    "uuid": [("a", "uuid", "", uuids)],
    "text": [("a", "text", 'COLLATE "C"', texts)],
    "varchar": [("a", "character varying", 'COLLATE "POSIX"', texts)],
    "default": [("a", "text", "", texts)],
    "composite": [("b", "integer", "", lambda dice: dice.randint(-2, 2)), ("a", "text", 'COLLATE "C"', texts)],
}


@pytest.mark.parametrize("case", CASES)
def test_generated_keys(source_database: str, case: str) -> None:
    """The server says how many bounds are at or below each key; that is the number of the key's range."""
    columns, seed = CASES[case], random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    dice = random.Random(seed)
    names = [name for name, *_ in columns]
    with psycopg.connect(source_database) as server:
        made = {
            name: sql.SQL("{} " + type_ + " " + collation).format(sql.Identifier(name))
            for name, type_, collation, _ in columns
        }
        server.execute(
            sql.SQL("CREATE TABLE keys ({}, PRIMARY KEY ({}))").format(
                sql.SQL(", ").join(made[name] for name in sorted(names)), sql.SQL(", ").join(map(sql.Identifier, names))
            )
        )
        for _ in range(300):
            server.execute(
                sql.SQL("INSERT INTO keys ({}) VALUES ({}) ON CONFLICT DO NOTHING").format(
                    sql.SQL(", ").join(map(sql.Identifier, names)), sql.SQL(", ").join([sql.Placeholder()] * len(names))
                ),
                [make(dice) for *_, make in columns],
            )
        found = server.execute(
            query("chunk_key"), {"schema": "public", "name": "keys", "key": sorted(names)}
        ).fetchone()
        assert found is not None
        assert (found[1], set(found[2])) == (names, {True})
        _agree(server, columns, names)


def _agree(server: psycopg.Connection, columns: Sequence[Column], names: list[LiteralString]) -> None:
    key = sql.SQL(", ").join(map(sql.Identifier, names))
    as_text = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in names)
    server.execute(sql.SQL("CREATE TEMP TABLE bounds AS SELECT * FROM keys ORDER BY random() LIMIT 40"))
    bounds = server.execute(sql.SQL("SELECT ARRAY[{}] FROM bounds ORDER BY {}").format(as_text, key)).fetchall()
    ends = [None, *(bound for (bound,) in bounds), None]
    chunks = [Chunk(id=i, state=NotStarted(), lower=a, upper=b) for i, (a, b) in enumerate(pairwise(ends))]
    read = sorted(
        (ReadColumn(name, type_, True, wire=type_) for name, type_, *_ in columns), key=lambda column: column.name
    )
    of_entity = EntityChunks(read, names, chunks)
    below = sql.SQL("SELECT {}, (SELECT count(*) FROM bounds b WHERE ({}) <= ({})) FROM keys k").format(
        sql.SQL(", ").join(sql.SQL("k.{}").format(sql.Identifier(column.name)) for column in read),
        sql.SQL(", ").join(sql.SQL("b.{}").format(sql.Identifier(name)) for name in names),
        sql.SQL(", ").join(sql.SQL("k.{}").format(sql.Identifier(name)) for name in names),
    )
    with server.cursor(binary=True) as cursor:
        cursor.execute(below)
        result = cursor.pgresult
        assert result is not None
        for number in range(result.ntuples):
            *cells, count = (result.get_value(number, column) or b"" for column in range(result.nfields))
            row = tuple(len(cell).to_bytes(4, "big") + cell for cell in cells)
            assert of_entity.of(row).id == int.from_bytes(count, "big"), row
