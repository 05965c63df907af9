"""What the log brings: values of every kind, what it leaves out, what stops a stream, and whose writes count."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import LiteralString

import pytest

from alih.errors import AlihError, Corrupt, NeedsOperator
from alih.model.finding import Cause
from alih.model.projection import Direction
from alih.model.side import SHARED, Side
from alih.model.turn import Turn
from alih.postgres import changed, follower, positions
from alih.postgres.engine import Engine
from tests.integration.engine.world import World, connected, equal_tables, following, hold_before, rows
from tests.support.databases import Databases
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

ITEMS = "CREATE TABLE items (id bigint PRIMARY KEY, name text, code varchar(10) UNIQUE)"
ALL = "SELECT * FROM items ORDER BY id"
KINDS = """
    CREATE TABLE kinds (
        a int, b varchar(20), n numeric(20,4), f double precision, t timestamptz, d date, j jsonb, y bytea, l text[],
        u uuid, c char(5), v interval, o boolean, PRIMARY KEY (a, b))"""
LARGE = (
    "CREATE TABLE docs (id bigint PRIMARY KEY, title text, body text); ALTER TABLE docs ALTER body SET STORAGE EXTERNAL"
)


async def test_values_of_every_kind_and_nulls(databases: Databases, tmp_path: Path) -> None:
    async with equal_tables(databases, tmp_path, KINDS) as world:
        insert: LiteralString = (
            "INSERT INTO kinds SELECT i, '', -1234567.8900, '-0', '2023-12-12 00:00+07', 'infinity', '{\"a\": null}',"
            " '\\x00ff', '{a,NULL,\"\"}', '00000000-0000-0000-0000-000000000001', 'x', '1 mon -2 days', true"
            " FROM generate_series(%s::int, %s::int) i"
        )
        await world.source.execute(insert, (1, 2))
        await world.source.execute("INSERT INTO kinds (a, b) VALUES (9, 'NULL')")
        await world.engine().copy()
        async with following(world.engine()):
            await world.source.execute(insert, (3, 4))
            await world.source.execute("INSERT INTO kinds (a, b) VALUES (10, 'NULL')")
            await world.source.execute("UPDATE kinds SET l = NULL, b = 'é' WHERE a IN (1, 3)")
            await world.source.execute("UPDATE kinds SET o = NULL, f = 'NaN' WHERE a IN (2, 4)")
            await world.caught_up()
            found = await world.both("SELECT a, b, l IS NULL, o, n::text, f::text, c, y FROM kinds ORDER BY a")
            assert (await world.verified()).clean
        one = (1, "é", True, True, "-1234567.8900", "-0", "x    ", b"\x00\xff")
        two = (2, "", False, None, "-1234567.8900", "NaN", "x    ", b"\x00\xff")
        empty = ("NULL", True, None, None, None, None, None)
        assert found == [one, two, (3, *one[1:]), (4, *two[1:]), (9, *empty), (10, *empty)]


@pytest.mark.parametrize("when", ["copied", "while copying"])
async def test_a_large_value_that_did_not_change_stays(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """Two updates and a change of key in which the log leaves the large value out."""
    merge = hold_before(monkeypatch, "_lock")
    async with equal_tables(databases, tmp_path, LARGE) as world:
        await world.source.execute("INSERT INTO docs SELECT i, 'old', repeat('x', 9000) FROM generate_series(1, 3) i")
        async with following(world.engine()), asyncio.TaskGroup() as tasks:
            copying = tasks.create_task(world.engine().copy())
            await merge.there.wait()
            if when == "copied":
                merge.go.set()
                await copying
            await world.source.execute("UPDATE docs SET title = 'new' WHERE id = 1")
            await world.source.execute("UPDATE docs SET title = 'newer' WHERE id <= 2")
            await world.source.execute("UPDATE docs SET id = 4, title = 'moved' WHERE id = 3")
            await world.caught_up()
            merge.go.set()
            await copying
        found = await world.both("SELECT id, title, body = repeat('x', 9000) FROM docs ORDER BY id")
        assert found == [(1, "newer", True), (2, "newer", True), (4, "moved", True)]


async def test_a_partial_update_of_a_row_that_is_gone_is_noticed(databases: Databases, tmp_path: Path) -> None:
    async with equal_tables(databases, tmp_path, LARGE) as world:
        await world.source.execute("INSERT INTO docs VALUES (1, 'old', repeat('x', 9000))")
        await world.engine().copy()
        await world.target.execute("DELETE FROM docs")
        await world.source.execute("UPDATE docs SET title = 'new'")
        with pytest.raises(Corrupt, match=r"docs: 0 rows of public\.docs were written where 1 had to be"):
            await world.engine().follow()


async def test_a_unique_value_handed_on_between_rows(databases: Databases, tmp_path: Path) -> None:
    """In one batch a swap by way of a third value, and a rotation: neither can be written all at once."""
    async with equal_tables(databases, tmp_path, ITEMS) as world:
        await world.source.execute("INSERT INTO items SELECT i, '', 'c' || i FROM generate_series(1, 5) i")
        await world.engine().copy()
        async with world.source.transaction():
            for place, code in ((1, "spare"), (2, "c1"), (1, "c2"), (3, "c6"), (4, "c3"), (5, "c4"), (3, "c5")):
                await world.source.execute("UPDATE items SET code = %s WHERE id = %s", (code, place))
        async with following(world.engine()):
            await world.caught_up()
        assert [code for *_, code in await world.both(ALL)] == ["c2", "c1", "c5", "c3", "c4"]


async def end_of(engine: Engine) -> AlihError:
    """What a follower ends with."""
    with pytest.raises(AlihError) as stop:
        await engine.follow()
    return stop.value


async def test_a_stopped_stream_tells_whoever_waits_for_it(databases: Databases, tmp_path: Path) -> None:
    async with equal_tables(databases, tmp_path, ITEMS) as world:
        await world.source.execute("TRUNCATE items")
        with pytest.raises(NeedsOperator, match="truncated"):
            await world.engine().follow()
        with pytest.raises(NeedsOperator, match=r"forward stream stopped: table public\.items of the source was"):
            await world.caught_up()


async def test_a_row_in_the_way_of_the_copy(databases: Databases, tmp_path: Path) -> None:
    async with equal_tables(databases, tmp_path, ITEMS) as world:
        await world.target.execute("INSERT INTO items VALUES (7, 'theirs', 'rahasia')")
        await world.source.execute("INSERT INTO items VALUES (1, 'ours', 'rahasia')")
        with pytest.raises(NeedsOperator) as stop:
            await world.engine().copy()
        assert "items already has the key of a row that crosses (constraint items_code_key)" in stop.value.message
        assert "rahasia" not in str(stop.value)
        assert await rows(world.target, ALL) == [(7, "theirs", "rahasia")]
        await world.target.execute("DELETE FROM items")
        await world.engine().copy()
        assert await world.both(ALL) == [(1, "ours", "rahasia")]


async def test_a_row_in_the_way_of_the_stream_stops_it_and_it_goes_on_after_the_cure(
    databases: Databases, tmp_path: Path
) -> None:
    async with equal_tables(databases, tmp_path, ITEMS) as world:
        await world.engine().copy()
        await world.target.execute("INSERT INTO items VALUES (7, 'theirs', 'rahasia')")
        await world.source.execute("INSERT INTO items VALUES (1, 'ours', 'rahasia')")
        with pytest.raises(NeedsOperator) as stop:
            await world.engine().follow()
        assert "(constraint items_code_key)" in await world.stopped()
        assert "rahasia" not in str(stop.value) + await world.stopped()
        await world.target.execute("DELETE FROM items")
        await world.engine().open()  # as alih run does: the old reason must not meet whoever waits from here on
        assert await rows(world.target, "SELECT stopped FROM alih.stream") == [(None,)]
        async with following(world.engine()):
            await world.caught_up()
        assert await world.both(ALL) == [(1, "ours", "rahasia")]


@pytest.mark.parametrize(
    ("shape", "named"),
    [
        ("ALTER TABLE items ALTER code TYPE varchar(3)", "StringDataRightTruncation (22001)"),
        ("ALTER TABLE items ADD CHECK (code <> 'rahasia')", "CheckViolation, table items, constraint items_code_check"),
        ("ALTER TABLE items ALTER code SET NOT NULL", "items.code would become NULL"),
        ("ALTER TABLE items DROP code", 'column "code" of relation "items" does not exist (42703)'),
    ],
)
@pytest.mark.parametrize("way", ["copy", "stream"])
async def test_what_the_target_refuses_is_said_without_the_value(
    databases: Databases, tmp_path: Path, shape: LiteralString, named: str, way: str
) -> None:
    async with equal_tables(databases, tmp_path, ITEMS) as world:
        if way == "stream":
            await world.engine().copy()
        await world.target.execute(shape)
        await world.source.execute("INSERT INTO items VALUES (1, 'rahasia', 'rahasia'), (2, 'rahasia', NULL)")
        with pytest.raises(NeedsOperator) as stop:
            await (world.engine().copy() if way == "copy" else world.engine().follow())
        assert named in stop.value.message
        assert "rahasia" not in str(stop.value)
        assert stop.value.__cause__ is None
        assert stop.value.__suppress_context__


async def test_one_chunk_that_fails_ends_the_others_and_is_what_is_raised(databases: Databases, tmp_path: Path) -> None:
    two = "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)"
    async with equal_tables(databases, tmp_path, two) as world:
        await world.source.execute("INSERT INTO a VALUES (1); INSERT INTO b VALUES (1)")
        await world.target.execute("INSERT INTO b VALUES (1)")
        async with connected(databases.source) as blocker:
            await blocker.execute("BEGIN; LOCK TABLE a")  # so that a's COPY is running when b fails
            with pytest.raises(NeedsOperator, match="constraint b_pkey"):
                await world.engine().copy()
            await until(lambda: no_session_is_left(databases), within_s=5)
        await world.target.execute("DELETE FROM b")
        await world.engine().copy()
        assert await world.both("SELECT 'a', id FROM a UNION ALL SELECT 'b', id FROM b ORDER BY 1") == [
            ("a", 1),
            ("b", 1),
        ]


async def no_session_is_left(databases: Databases) -> bool:
    for dsn in (databases.source, databases.target):
        async with connected(dsn) as looking:
            found = await rows(
                looking, "SELECT FROM pg_stat_activity WHERE application_name = 'alih' AND datname = current_database()"
            )
            if found:
                return False
    return True


SHOPS = """
    CREATE TABLE shops (id int PRIMARY KEY);
    CREATE TABLE items (id bigint PRIMARY KEY, name text, shop int NOT NULL);
    CREATE TABLE names (id int PRIMARY KEY, name text);
    INSERT INTO shops VALUES (1), (2)"""
TENANTS = {"shops": "id", "items": "shop"}
STRAYS: LiteralString = "SELECT direction, entity, tenant, read_key FROM alih.stray ORDER BY read_key"


@asynccontextmanager
async def both_ways(databases: Databases, directory: Path) -> AsyncIterator[World]:
    """Two shops, copied, and both streams running."""
    async with equal_tables(databases, directory, SHOPS, TENANTS) as world:
        await world.target.execute("DELETE FROM shops")
        back = world.engine(Direction.REVERSE)
        await back.open()
        await world.engine().copy()
        async with following(world.engine()), following(back):
            yield world


async def turn(world: World, tenant: str) -> None:
    """What the fence writes into both logs when the target becomes a tenant's owner."""
    for side in (world.source, world.target):
        encoded = Turn(tenant, Side.TARGET, 1).encode()
        await side.execute("SELECT pg_logical_emit_message(true, %s, %s)", (positions.OWNER, encoded))


async def test_each_row_crosses_from_its_owner_and_never_comes_back(databases: Databases, tmp_path: Path) -> None:
    """Both streams run while shop 1 is turned to the target: whatever the other side writes is stray."""
    async with both_ways(databases, tmp_path) as world:
        await world.source.execute("INSERT INTO items VALUES (1, 'source', 1), (2, 'source', 2)")
        await world.caught_up()
        await world.target.execute("INSERT INTO items VALUES (3, 'stray', 1)")
        await turn(world, "1")
        await world.target.execute("INSERT INTO items VALUES (4, 'target', 1), (5, 'stray', 2)")
        await world.target.execute("UPDATE items SET name = 'both' WHERE id = 1")
        await world.caught_up(Direction.REVERSE)
        await world.source.execute("INSERT INTO items VALUES (6, 'stray', 1), (7, 'source', 2)")
        await world.source.execute("DELETE FROM items WHERE id = 1")
        await world.caught_up()
        await world.caught_up(Direction.REVERSE)
        at_source, at_target = await rows(world.source, ALL), await rows(world.target, ALL)
        assert at_source == [(2, "source", 2), (4, "target", 1), (6, "stray", 1), (7, "source", 2)]
        assert at_target == [
            (1, "both", 1),
            (2, "source", 2),
            (3, "stray", 1),
            (4, "target", 1),
            (5, "stray", 2),
            (7, "source", 2),
        ]
        found = [("forward", "items", "1", ["1"]), ("forward", "items", "1", ["6"])]
        assert await rows(world.target, STRAYS) == found
        assert await rows(world.source, STRAYS) == [("reverse", "items", "1", ["3"]), ("reverse", "items", "2", ["5"])]


async def test_shared_rows_come_back_after_their_turn(databases: Databases, tmp_path: Path) -> None:
    async with both_ways(databases, tmp_path) as world:
        await world.target.execute("INSERT INTO names VALUES (1, 'stray')")
        await turn(world, SHARED)
        await world.target.execute("INSERT INTO names VALUES (2, 'target')")
        await world.caught_up(Direction.REVERSE)
        assert await rows(world.source, "SELECT * FROM names") == [(2, "target")]
        assert await rows(world.source, STRAYS) == [("reverse", "names", SHARED, ["1"])]


async def test_a_stray_that_replaces_a_row_touches_nothing(databases: Databases, tmp_path: Path) -> None:
    """Deleted and inserted again in one transaction, by the side that does not own the row."""
    async with both_ways(databases, tmp_path) as world:
        await world.source.execute("INSERT INTO items VALUES (1, 'kept', 1)")
        await world.caught_up()
        async with world.target.transaction():
            await world.target.execute("DELETE FROM items")
            await world.target.execute("INSERT INTO items VALUES (1, 'stray', 1)")
        await world.caught_up(Direction.REVERSE)
        assert await rows(world.source, ALL) == [(1, "kept", 1)]
        assert await rows(world.source, STRAYS) == [("reverse", "items", "1", ["1"])]


async def test_the_log_of_changed_keys(databases: Databases, tmp_path: Path) -> None:
    """A change of key leaves both keys to be looked at; a row that comes and goes at once leaves its own."""
    async with both_ways(databases, tmp_path) as world:
        await world.source.execute("INSERT INTO items VALUES (1, '', 1), (2, '', 2), (3, '', 1)")
        await world.caught_up()
        async with world.engine().verifier() as verifier:
            assert (await verifier.changed_keys("1")).rows == 2
            assert (await verifier.everything()).clean
            assert (await verifier.changed_keys("1")).rows == 0
        async with world.source.transaction():
            await world.source.execute("INSERT INTO items VALUES (8, '', 1)")
            await world.source.execute("DELETE FROM items WHERE id = 8")
            await world.source.execute("UPDATE items SET id = 4 WHERE id = 1")
            await world.source.execute("DELETE FROM items WHERE id = 3")
        await world.caught_up()
        found = await changed.of_tenants(world.target, Direction.FORWARD, ["1", "2"])
        assert {e: {k.write_key for k in keys} for e, keys in found.items()} == {
            "items": {("1",), ("3",), ("4",), ("8",)}
        }
        await world.target.execute("INSERT INTO items VALUES (1, '', 1)")
        await world.target.execute("UPDATE items SET name = 'wrong' WHERE id = 4")
        async with world.engine().verifier() as verifier:
            verdict = await verifier.changed_keys("1")
        assert (verdict.rows, {(f.key, f.cause) for f in verdict.findings}) == (
            4,
            {(("1",), Cause.SURPLUS), (("4",), Cause.DIFFERENT)},
        )


async def test_transactions_dropped_before_the_copy_are_forgotten_once_visible(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "_MANY_DROPPED", 3)
    async with equal_tables(databases, tmp_path, ITEMS) as world:
        async with following(world.engine()):
            for number in range(2):
                await world.source.execute("INSERT INTO items VALUES (%s)", (number,))
            await world.caught_up()
            assert await rows(world.target, "SELECT cardinality(dropped) FROM alih.stream") == [(2,)]
            await world.source.execute("INSERT INTO items VALUES (2)")
            await world.caught_up()
            assert await rows(world.target, "SELECT cardinality(dropped) FROM alih.stream") == [(0,)]
            await world.engine().copy()
        assert len(await world.both(ALL)) == 3


async def test_the_position_is_where_a_new_follower_begins(databases: Databases, tmp_path: Path) -> None:
    """Each transaction counts once although the server is asked again for what it was told is safe."""
    async with equal_tables(databases, tmp_path, ITEMS) as world:
        await world.engine().copy()
        for number in range(3):
            await world.source.execute("INSERT INTO items VALUES (%s)", (number,))
            async with following(world.engine()):
                reached = await world.caught_up()
            ((stored,),) = await rows(world.target, "SELECT position::text FROM alih.stream")
            assert type(reached).parse(stored) >= reached
        assert [number for number, *_ in await world.both(ALL)] == [0, 1, 2]
