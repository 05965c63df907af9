"""What counts as a difference: values of each type that are the same on both sides, and values that only look alike."""

from pathlib import Path
from typing import LiteralString

import pytest

from alih.model.finding import Cause
from alih.postgres import positions
from tests.integration.engine.world import equal_tables, following
from tests.support.databases import Databases

pytestmark = pytest.mark.anyio

# type, values that differ from each other however alike they look
ALIKE: list[tuple[LiteralString, list[LiteralString]]] = [
    ("text", ["NULL", "''", "' '", "'a'", "'A'", "'é'", "E'e\\u0301'", "'NULL'", "'\"\"'"]),
    ("varchar(9)", ["NULL", "''", "'a'", "'a '"]),
    ("char(3)", ["NULL", "''", "'a'"]),
    ("smallint", ["NULL", "0", "-1", "32767"]),
    ("bigint", ["NULL", "0", "1", "4294967296", "4294967297", "-1", "-4294967297"]),
    ("real", ["NULL", "'0'", "'-0'", "'NaN'", "'Infinity'", "1.5"]),
    ("double precision", ["NULL", "'0'", "'-0'", "'NaN'", "'-Infinity'", "0.1", "0.1::real"]),
    ("numeric", ["NULL", "0", "0.0", "1", "1.0", "1.00", "'NaN'", "'Infinity'"]),
    ("numeric(12,2)", ["NULL", "1", "1.01"]),
    ("boolean", ["NULL", "true", "false"]),
    ("date", ["NULL", "'infinity'", "'4713-01-01 BC'", "'5874897-12-31'"]),
    ("timestamp", ["NULL", "'infinity'", "'1999-12-31 23:59:59.999999'", "'2000-01-01'", "'294276-12-31'"]),
    ("timestamptz", ["NULL", "'-infinity'", "'2024-10-27 00:30+00'", "'2024-10-27 00:30+01'", "'4713-01-02 BC'"]),
    ("time", ["NULL", "'00:00'", "'24:00'"]),
    ("timetz", ["NULL", "'07:00+07'", "'00:00+00'"]),
    ("interval", ["NULL", "'1 day'", "'24 hours'", "'1 mon'", "'30 days'"]),
    ("uuid", ["NULL", "'00000000-0000-0000-0000-000000000000'"]),
    ("bytea", ["NULL", "''", "'\\x00'", "'\\x0000'"]),
    ("json", ["NULL", """'{"a":1,"b":2}'""", """'{"b":2,"a":1}'""", """'{"a": 1,"b":2}'"""]),
    ("jsonb", ["NULL", "'{}'", "'[]'", "'null'", """'{"a":1}'""", """'{"a":1.0}'""", """'{"a":"1"}'"""]),
    ("int[]", ["NULL", "'{}'", "'{NULL}'", "'{1,2}'", "'{{1,2}}'", "'[0:1]={1,2}'"]),
    ("text[]", ["NULL", "'{}'", "'{\"\"}'", "'{NULL}'", "'{\"NULL\"}'", "'{\"a,b\"}'", "'{a,b}'"]),
    ("inet", ["NULL", "'10.0.0.1'", "'10.0.0.1/8'"]),
]
# written otherwise, and the same value
SAME: list[tuple[LiteralString, LiteralString, LiteralString]] = [
    ("jsonb", """'{"b": 2, "a": 1}'""", """'{"a":1,"b":2}'"""),
    ("timestamptz", "'2024-03-31 01:30:00+00'", "'2024-03-31 08:30:00+07'"),
    ("double precision", "'NaN'", "'nan'"),
    ("numeric", "1e3", "1000"),
    ("uuid", "'3F333DF690A44FDA8DD39485D27CEE36'", "'3f333df6-90a4-4fda-8dd3-9485d27cee36'"),
    ("char(3)", "'a'", "'a  '"),
]


async def test_types(databases: Databases, tmp_path: Path) -> None:
    """Each value beside each other one of its type; and the same values, each written in its own way."""
    pairs = [(t, a, b, a != b) for t, values in ALIKE for a in values for b in values]
    pairs += [(t, a, b, False) for t, a, b in SAME]
    kinds = list(dict.fromkeys(t for t, *_ in pairs))
    tables: LiteralString = "; ".join(
        f"CREATE TABLE {_name(number)} (id int PRIMARY KEY, v {kind})" for number, kind in enumerate(kinds)
    )
    async with equal_tables(databases, tmp_path, tables) as world:
        await world.engine().copy()
        expected = set()
        for number, kind in enumerate(kinds):
            mine = [(a, b, differs) for t, a, b, differs in pairs if t == kind]
            for place, connection in enumerate((world.target, world.source)):
                rows: LiteralString = ", ".join(f"({i}, {pair[1 - place]})" for i, pair in _numbered(mine))
                async with connection.transaction():
                    await positions.mark_own(connection)  # so that the stream does not carry it
                    await connection.execute("INSERT INTO " + _name(number) + " (id, v) VALUES " + rows)  # noqa: S608
            expected |= {(_name(number), (i.lstrip("0"),), ("v",)) for i, pair in _numbered(mine) if pair[2]}
        async with following(world.engine()):
            verdict = await world.verified()
        assert {f.cause for f in verdict.findings} == {Cause.DIFFERENT}
        assert {(f.entity, f.key, f.columns) for f in verdict.findings} == expected
        assert verdict.rows == len(pairs)


def _name(number: int) -> LiteralString:
    names: list[LiteralString] = ["pair_" + c for c in "abcdefghijklmnopqrstuvwxyz"]
    return names[number]


def _numbered(
    mine: list[tuple[LiteralString, LiteralString, bool]],
) -> list[tuple[LiteralString, tuple[LiteralString, LiteralString, bool]]]:
    digits: list[LiteralString] = list("0123456789")
    return [(digits[n // 100] + digits[n // 10 % 10] + digits[n % 10], pair) for n, pair in enumerate(mine, 1)]
