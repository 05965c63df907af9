"""A shop moves while people buy: `alih serve` as a process, requests through Envoy, both databases looked at after."""

import signal
from typing import LiteralString

import psycopg
import pytest

from tests.integration.gateway.world import free_port
from tests.support.alih_command import PASSWORD
from tests.support.databases import Databases
from tests.support.small_world import SECRET, SHOPS, Connection, SmallWorld, small_world
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

_TRACES: tuple[LiteralString, ...] = (
    "SELECT nspname FROM pg_namespace WHERE nspname LIKE 'alih%'",
    "SELECT pubname FROM pg_publication",
    "SELECT slot_name FROM pg_replication_slots WHERE database = current_database()",
    "SELECT tgname FROM pg_trigger WHERE tgname LIKE 'alih%'",
    "SELECT proname FROM pg_proc WHERE proname LIKE '%fence%'",
    "SELECT roname FROM pg_replication_origin",
)


async def traces(connection: Connection) -> list[object]:
    return [row for query in _TRACES for row in await (await connection.execute(query)).fetchall()]


async def test_the_whole_road(databases: Databases) -> None:
    gateway = f"127.0.0.1:{free_port()}"
    async with small_world(databases, gateway) as world:
        async with world.command.started("serve") as serve:
            await serve.says("ready: 5 tenants verified")
            async with world.shopping():
                await first_moves(world)
                await an_open_writer_keeps_a_shop_where_it_is(world)
                await the_rest_move(world)
            assert world.failed == []
            await nothing_is_lost_and_nothing_twice(world)
            await a_stray_write_is_counted(world)
            await the_shared_rows_follow(world)
            await the_way_back_is_closed(world)
            stopped = await serve.ends(signal.SIGINT)
        assert (stopped.code, stopped.err) == (130, "stopped; nothing is lost, the same command goes on from here\n")
        assert world.command.children() == []
        await clean_leaves_nothing(world)
        assert [path for path, text in world.command.written().items() if SECRET in text or PASSWORD in text] == []


async def first_moves(world: SmallWorld) -> None:
    assert await world.sides_of("1", 3) == {"source": 3}
    moved = await world.command.run("cutover", "first", "--json")
    assert (moved.code, moved.document) == (0, {"exit_code": 0, "cohort": "first", "moved": 1, "aborted": {}})
    assert await world.sides_of("1", 3) == {"target": 3}
    assert await world.sides_of("2", 3) == {"source": 3}
    unmoved = await world.command.run("finish", "rest")
    assert (unmoved.code, unmoved.err.splitlines()[0]) == (64, "3 tenants of cohort rest have not been moved")
    early = await world.command.run("cutover", "shared")
    assert (early.code, early.err.splitlines()[0]) == (
        64,
        "the shared rows are moved after all tenants, and 4 are still at the source",
    )


async def an_open_writer_keeps_a_shop_where_it_is(world: SmallWorld) -> None:
    async with await psycopg.AsyncConnection.connect(world.databases.source, user="shop_app") as job:
        await job.execute("INSERT INTO orders (order_id, shop_id, note) VALUES (999, 2, 'job')")
        refused = await world.command.run("cutover", "second", "--json")
        assert (refused.code, refused.document) == (
            75,
            {
                "exit_code": 75,
                "cohort": "second",
                "moved": 0,
                "aborted": {"2": "tenant 2: a transaction that writes its rows on the source does not end"},
            },
        )
        assert await world.sides_of("2", 3) == {"source": 3}
        await job.commit()
    assert (await world.command.run("cutover", "second")).code == 0
    assert await world.sides_of("2", 3) == {"target": 3}


async def the_rest_move(world: SmallWorld) -> None:
    moved = await world.command.run("cutover", "rest", "--json")
    assert (moved.code, moved.document["moved"]) == (0, 3)
    for shop in SHOPS:
        assert await world.sides_of(shop, 2) == {"target": 2}


async def nothing_is_lost_and_nothing_twice(world: SmallWorld) -> None:
    await world.equal()  # so each order that the target took after its shop's flip is at the source too
    stored = [order for order, _, _ in (await world.rows(world.target))[1]]
    told = [told.order for told in world.told]
    assert len(told) == len(set(told)) > 100
    assert sorted(stored) == sorted([*told, *range(1000, 1500), 999])
    assert await world.stray_writes() == {"forward": 0, "reverse": 0}
    for shop in SHOPS:  # once a shop's orders come from the target, none comes from the source again
        taken = [told.side for told in world.told if told.shop == shop]
        assert taken.count("source") > 0
        assert set(taken[-2:]) == {"target"}
    async with world.client.get(f"http://{world.gateway}/api/me/orders") as answer:
        assert (await answer.json())["orders"] == [str(order) for order in stored]
    document = (await world.command.run("status", "--json")).document
    assert document["tenants"] == {
        "first": {"soaking": 1},
        "second": {"soaking": 1},
        "rest": {"soaking": 3},
        "shared": {"verified": 1},
    }
    assert document["hold_ms"]["max"] < 5000


async def a_stray_write_is_counted(world: SmallWorld) -> None:
    await world.source.execute("ALTER TABLE orders DISABLE TRIGGER alih_fence")
    await world.source.execute("UPDATE orders SET note = 'diam-diam' WHERE order_id = 1000")
    await world.source.execute("ALTER TABLE orders ENABLE ALWAYS TRIGGER alih_fence")

    async def seen() -> bool:
        return await (await world.target.execute("SELECT count(*) FROM alih.stray")).fetchall() == [(1,)]

    await until(seen, within_s=20)
    assert await world.stray_writes() == {"forward": 1, "reverse": 0}
    there = await (await world.target.execute("SELECT note FROM orders WHERE order_id = 1000")).fetchall()
    assert there != [("diam-diam",)]
    assert (await world.command.run("verify")).code == 69


async def the_shared_rows_follow(world: SmallWorld) -> None:
    assert (await world.command.run("cutover", "shared")).code == 0
    async with await psycopg.AsyncConnection.connect(world.databases.target, user="shop_app") as app:
        await app.execute("UPDATE vouchers SET used = used + 1")
        await app.commit()

    async def came_back() -> bool:
        return await (await world.source.execute("SELECT used FROM vouchers")).fetchall() == [(1,)]

    await until(came_back)


async def the_way_back_is_closed(world: SmallWorld) -> None:
    closed = await world.command.run("finish", "first", "--json")
    assert (closed.code, closed.document) == (0, {"exit_code": 0, "cohort": "first", "finished": 1, "aborted": {}})
    differs = await world.command.run("finish", "second")  # it has the row that was written past the fence
    assert (differs.code, differs.err.splitlines()[0]) == (
        69,
        "1 rows of cohort second differ, 0 could not be decided",
    )
    phases = (await world.command.run("status", "--json")).document["tenants"]
    assert (phases["first"], phases["second"]) == ({"done": 1}, {"soaking": 1})


async def clean_leaves_nothing(world: SmallWorld) -> None:
    assert await traces(world.source) != []
    cleaned = await world.command.run("clean")
    assert (cleaned.code, cleaned.out) == (0, "small-world: no other trace is left in either database\n")
    assert [await traces(side) for side in (world.source, world.target)] == [[], []]
    async with await psycopg.AsyncConnection.connect(world.databases.control) as control:
        assert await traces(control) == []
