"""Two streams against each other: a canary proves each, nothing circles, and what others replicate crosses."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import LiteralString

import pytest
from psycopg import sql

from alih.errors import NeedsOperator
from alih.model.projection import Direction
from alih.model.side import SHARED
from tests.integration.engine.test_follow import ALL, STRAYS, both_ways, turn
from tests.integration.engine.world import Connection, World, connected, rows
from tests.support.databases import Databases
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

THIRD = """
    CREATE TABLE items (id bigint PRIMARY KEY, name text, shop int NOT NULL);
    CREATE TABLE names (id int PRIMARY KEY, name text)"""


async def test_a_canary_proves_each_way(databases: Databases, tmp_path: Path) -> None:
    """It crosses by the ordinary path before any tenant has flipped, and leaves nothing behind."""
    async with both_ways(databases, tmp_path) as world:
        for direction in Direction:
            await world.engine(direction).prove()
            await world.caught_up(direction)
        for side in (world.source, world.target):
            assert await rows(side, "SELECT FROM alih.canary") == []
            assert await rows(side, "SELECT state, proven_at IS NOT NULL FROM alih.stream") == [("following", True)]
            assert await rows(side, STRAYS) == []


@pytest.mark.parametrize("direction", list(Direction))
async def test_a_way_that_carries_nothing_is_named(databases: Databases, tmp_path: Path, direction: Direction) -> None:
    async with both_ways(databases, tmp_path) as world:
        reads = world.source if direction is Direction.FORWARD else world.target
        name = sql.Identifier(f"alih_race_{direction}_canary")
        await reads.execute(sql.SQL("ALTER PUBLICATION {} DROP TABLE alih.canary").format(name))
        with pytest.raises(NeedsOperator, match=f"the {direction} stream passed a canary row, and it did not arrive"):
            await world.engine(direction).prove()
        assert await rows(world.source, "SELECT FROM alih.canary") == []
        assert await rows(world.target, "SELECT FROM alih.canary") == []


@asynccontextmanager
async def subscribed(to: Connection, publisher: str, table: LiteralString, name: LiteralString) -> AsyncIterator[None]:
    """A native subscription of somebody else's, without an initial copy."""
    async with connected(publisher) as admin:
        await admin.execute(sql.SQL("CREATE PUBLICATION {} FOR TABLE {}").format(sql.SQL(name), sql.SQL(table)))
        await admin.execute("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", (name,))
        create = sql.SQL(
            "CREATE SUBSCRIPTION {n} CONNECTION {dsn} PUBLICATION {n} WITH (create_slot = false, slot_name = {n},"
            " copy_data = false)"
        ).format(n=sql.SQL(name), dsn=sql.Literal(publisher))
        await to.execute(create)
        try:
            yield
        finally:
            await to.execute(sql.SQL("DROP SUBSCRIPTION {}").format(sql.SQL(name)))


async def test_somebody_elses_replication_into_and_out_of_both_sides(databases: Databases, tmp_path: Path) -> None:
    """Rows that a native subscription writes into the source carry an origin that is not ours: they cross, once, and
    stay. A native subscriber of the target sees what alih wrote there and what the target wrote. Nothing circles."""
    async with both_ways(databases, tmp_path) as world, connected(databases.control) as other:
        await other.execute(THIRD)
        async with (
            subscribed(world.source, databases.control, "names", "theirs_in"),
            subscribed(other, databases.target, "items", "theirs_out"),
        ):
            await feeds_the_source(world, other)
            await turn(world, "1")
            await turn(world, SHARED)
            await world.target.execute("INSERT INTO items VALUES (2, 'target', 1)")
            await world.target.execute("UPDATE names SET name = 'changed' WHERE id = 1")
            for direction in (*Direction, *Direction):
                await world.caught_up(direction)
            assert await world.both(ALL) == [(1, "source", 1), (2, "target", 1)]
            assert await world.both("SELECT * FROM names") == [(1, "changed")]
            assert await settled(world)
            await seen(other, "SELECT * FROM items ORDER BY id", [(1, "source", 1), (2, "target", 1)])
        assert [await rows(side, STRAYS) for side in (world.source, world.target)] == [[], []]


async def feeds_the_source(world: World, other: Connection) -> None:
    await other.execute("INSERT INTO names VALUES (1, 'third')")
    await world.source.execute("INSERT INTO items VALUES (1, 'source', 1)")
    await seen(world.source, "SELECT * FROM names", [(1, "third")])
    await world.caught_up()
    assert await rows(world.target, "SELECT * FROM names") == [(1, "third")]


async def seen(side: Connection, query: LiteralString, expected: list[tuple[object, ...]]) -> None:
    async def there() -> bool:
        return await rows(side, query) == expected

    await until(there, within_s=20)


async def settled(world: World) -> bool:
    """Neither side's rows are written any more, although both streams have passed all that there was."""
    versions: LiteralString = "SELECT id, xmin::text FROM items UNION ALL SELECT id, xmin::text FROM names ORDER BY 1"
    before = [await rows(side, versions) for side in (world.source, world.target)]
    for direction in (*Direction, *Direction):
        await world.caught_up(direction)
    return before == [await rows(side, versions) for side in (world.source, world.target)]
