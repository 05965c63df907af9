"""Case 7: what the log cannot repeat stops the stream by name. Nothing is applied half, what came before is applied,
and once it is undone the stream goes on."""

import asyncio
from pathlib import Path
from typing import LiteralString

import pytest

from alih.errors import NeedsOperator
from alih.postgres import watching
from alih.postgres.engine import Engine
from tests.integration.engine.world import World, equal_tables, following, rows
from tests.support.databases import Databases

pytestmark = pytest.mark.anyio

TABLES = """
    CREATE TABLE items (id bigint PRIMARY KEY, name text, code varchar(10) UNIQUE);
    CREATE TABLE other (id bigint PRIMARY KEY);
    CREATE TABLE parts (day int, id bigint, note text, PRIMARY KEY (day, id)) PARTITION BY RANGE (day);
    CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (10);
"""
ITEMS = "SELECT * FROM items ORDER BY id"
PARTS = "SELECT * FROM parts ORDER BY id"
ANEW = "alih clean, then start the copy anew"


async def end_of(engine: Engine) -> NeedsOperator:
    with pytest.raises(NeedsOperator) as stop:
        await engine.follow()
    return stop.value


async def stopped_by(world: World, number: int, statement: LiteralString, *, whole: bool = False) -> NeedsOperator:
    """Write rows, and in a transaction another row and `statement`. When the stream stops, the former are applied, and
    of the transaction nothing; or all of it, where the log has no place at which it happened."""
    await world.engine().open()
    async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        stream = tasks.create_task(end_of(world.engine()))
        await world.caught_up()
        await world.source.execute("INSERT INTO parts VALUES (5, %s)", (100 + number,))
        await world.source.execute("INSERT INTO items (id) VALUES (%s)", (number,))
        async with world.source.transaction():
            await world.source.execute("INSERT INTO items (id) VALUES (%s)", (number + 1,))
            await world.source.execute(statement)
        stop = await stream
    assert await world.stopped() == str(stop)
    assert await rows(world.target, "SELECT max(id) FROM items") == [(number + whole,)]
    return stop


COLUMNS = (
    "table public.items of the source no longer has the columns that the contract was compiled for",
    "undo the change of the table, or adapt the contract, alih clean, and start the copy anew",
)
GONE = (
    "table public.items of the source is gone, or has another name",
    f"give it its name back, then run again; a table that was dropped: {ANEW}",
)
UNDONE: list[tuple[LiteralString, LiteralString, tuple[str, str]]] = [
    ("ALTER TABLE items ADD note text; UPDATE items SET name = 'b'", "ALTER TABLE items DROP note", COLUMNS),
    (
        "ALTER TABLE items RENAME name TO title; UPDATE items SET title = 'c'",
        "ALTER TABLE items RENAME title TO name",
        COLUMNS,
    ),
    (
        "ALTER TABLE items RENAME TO goods; UPDATE goods SET name = 'd'",
        "ALTER TABLE goods RENAME TO items",
        GONE,
    ),
    (
        "CREATE TABLE new (id int PRIMARY KEY); ALTER PUBLICATION alih_race_forward ADD TABLE new;"
        " INSERT INTO new VALUES (1)",
        "ALTER PUBLICATION alih_race_forward DROP TABLE new",
        (
            "table public.new of the source is in the stream and not in the contract",
            "take it out of the publication, then run again",
        ),
    ),
]


async def test_what_is_undone_lets_the_stream_go_on(databases: Databases, tmp_path: Path) -> None:
    async with equal_tables(databases, tmp_path, TABLES) as world:
        await world.engine().copy()
        for number, (statement, undo, (message, remedy)) in enumerate(UNDONE):
            stop = await stopped_by(world, 10 * number, statement)
            assert (stop.message, stop.remedy) == (message, remedy)
            await world.source.execute(undo)
            await world.engine().open()
            async with following(world.engine()):
                await world.caught_up()
                await world.both(ITEMS)
        assert await rows(world.target, "SELECT count(*), min(name), max(name) FROM items") == [(8, "d", "d")]


async def test_partitions_may_be_made_but_bring_or_take_no_rows(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_EVERY_S", 0.2)
    async with equal_tables(databases, tmp_path, TABLES) as world:
        await world.engine().copy()
        async with following(world.engine()):
            await world.source.execute("INSERT INTO parts VALUES (1, 1, 'x')")
            await world.source.execute("CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (10) TO (20)")
            await world.target.execute("CREATE TABLE elsewhere PARTITION OF parts DEFAULT")
            await world.source.execute("INSERT INTO parts VALUES (11, 2, 'y'), (2, 3, 'z')")
            await world.source.execute("UPDATE parts SET day = 12 WHERE id = 3")
            await world.source.execute("DELETE FROM parts WHERE id = 1")
            await world.caught_up()
            assert await world.both(PARTS) == [(11, 2, "y"), (12, 3, "z")]
            assert (await world.verified()).clean
        await world.source.execute("CREATE TABLE full_part (LIKE parts INCLUDING ALL)")
        await world.source.execute("INSERT INTO full_part VALUES (20, 4, 'rahasia')")
        stop = await stopped_by(
            world,
            10,
            "ALTER TABLE parts ATTACH PARTITION full_part FOR VALUES FROM (20) TO (30);"
            " INSERT INTO parts VALUES (3, 5, 'w')",
            whole=True,
        )
        assert (stop.message, stop.remedy) == (
            "public.full_part was attached to public.parts of the source: the log does not hold the rows that it"
            " brought along",
            "detach it; CREATE TABLE … PARTITION OF, and insert the rows",
        )
        await world.source.execute("ALTER TABLE parts DETACH PARTITION full_part")
        stop = await stopped_by(
            world, 20, "ALTER TABLE parts DETACH PARTITION parts_2; INSERT INTO parts VALUES (4, 6, 'v')", whole=True
        )
        assert (stop.message, stop.remedy) == (
            "partition public.parts_2 of public.parts of the source was detached or dropped: the log does not say that"
            " its rows are gone",
            f"attach it again, nothing changed in between; or {ANEW}",
        )
        await world.source.execute("ALTER TABLE parts ATTACH PARTITION parts_2 FOR VALUES FROM (10) TO (20)")
        await world.engine().open()
        async with following(world.engine()):
            await world.caught_up()
            assert [row[1] for row in await world.both(PARTS)] == [2, 3, 5, 6, 110, 120]


FINAL: list[tuple[LiteralString, str, str]] = [
    (
        "TRUNCATE items, other",
        "table public.items, table public.other of the source was truncated, and alih does not repeat that",
        ANEW,
    ),
    (
        "ALTER PUBLICATION alih_race_forward DROP TABLE items; ALTER TABLE items ALTER id TYPE int;"
        " ALTER PUBLICATION alih_race_forward ADD TABLE items (id, name, code); UPDATE items SET name = 'b'",
        *COLUMNS,
    ),
    (
        "ALTER PUBLICATION alih_race_forward DROP TABLE items; ALTER TABLE items DROP name;"
        " ALTER TABLE items ADD name text; ALTER PUBLICATION alih_race_forward ADD TABLE items (id, name, code);"
        " UPDATE items SET code = 'b' WHERE id = 1",
        *COLUMNS,
    ),
]


@pytest.mark.parametrize(("statement", "message", "remedy"), FINAL)
async def test_what_cannot_be_undone(
    databases: Databases, tmp_path: Path, statement: LiteralString, message: str, remedy: str
) -> None:
    async with equal_tables(databases, tmp_path, TABLES) as world:
        await world.engine().copy()
        stop = await stopped_by(world, 1, statement)
        assert (stop.message, stop.remedy) == (message, remedy)
        again = await end_of(world.engine())
        assert (again.message, again.remedy) == (message, remedy)


SILENT: list[tuple[LiteralString, str, str]] = [
    (
        "ALTER PUBLICATION alih_race_forward DROP TABLE items",
        "table public.items of the source was taken out of the publication, or is published otherwise: the log lacks"
        " changes of it",
        ANEW,
    ),
    (
        "DROP TABLE other",
        "table public.other of the source is gone, or has another name",
        f"give it its name back, then run again; a table that was dropped: {ANEW}",
    ),
    (
        "ALTER TABLE items REPLICA IDENTITY NOTHING",
        "the log of public.items of the source no longer names deleted rows as it did: its REPLICA IDENTITY or key has"
        " changed",
        "set it back, then run again",
    ),
]


@pytest.mark.parametrize(("statement", "message", "remedy"), SILENT)
async def test_what_the_log_says_nothing_about_is_noticed(
    databases: Databases,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    statement: LiteralString,
    message: str,
    remedy: str,
) -> None:
    monkeypatch.setattr(watching, "_EVERY_S", 0.05)
    async with equal_tables(databases, tmp_path, TABLES) as world:
        await world.engine().copy()
        async with asyncio.timeout(20), asyncio.TaskGroup() as tasks:
            stream = tasks.create_task(end_of(world.engine()))
            await world.caught_up()
            await world.source.execute("INSERT INTO items (id) VALUES (1)")
            await world.source.execute(statement)
            stop = await stream
        assert (stop.message, stop.remedy) == (message, remedy)
        assert await rows(world.target, ITEMS) == [(1, None, None)]
        again = await end_of(world.engine())  # also a stream that begins anew sees it
        assert again.message == message


async def test_a_table_that_was_out_of_the_publication_for_a_while(databases: Databases, tmp_path: Path) -> None:
    """While nobody followed: the changes of that time are nowhere in the log."""
    async with equal_tables(databases, tmp_path, TABLES) as world:
        await world.engine().copy()
        async with following(world.engine()):
            await world.caught_up()
        await world.source.execute("ALTER PUBLICATION alih_race_forward DROP TABLE items")
        await world.source.execute("INSERT INTO items (id) VALUES (1)")
        await world.source.execute("ALTER PUBLICATION alih_race_forward ADD TABLE items (id, name, code)")
        await world.source.execute("INSERT INTO items (id) VALUES (2)")
        stop = await end_of(world.engine())
        assert (stop.message, stop.remedy) == (SILENT[0][1], ANEW)
        assert await rows(world.target, ITEMS) == []
