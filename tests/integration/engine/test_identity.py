"""Ids that become others and values that only the source can hold: copied, followed, and brought back; and rows of the
target that stand in the way. Case 13 and 14 of the ways in which good movers lost rows."""

import asyncio
from pathlib import Path
from typing import LiteralString

import pytest

from alih.errors import NeedsOperator
from alih.model.projection import Direction
from tests.integration.engine.unlike_shops import turn, two_shops
from tests.integration.engine.world import following, rows
from tests.support.databases import Databases

pytestmark = pytest.mark.anyio

SOURCE_ORDERS: LiteralString = "SELECT order_id, status, address, note FROM orders WHERE shop_id = 1 ORDER BY 1"
TARGET_ORDERS: LiteralString = "SELECT id, merchant_id, state, street, channel FROM pesanan ORDER BY 1"


async def test_ids_are_offset_at_copy_and_live_beside_the_targets_own(databases: Databases, tmp_path: Path) -> None:
    async with two_shops(databases, tmp_path) as world:
        await world.engine().copy()
        async with following(world.engine()):
            await world.source.execute("INSERT INTO orders VALUES (4, 2, 'PAID', '{}', 'n4')")
            await world.source.execute("INSERT INTO lines VALUES (4, 1, 40)")
            await world.source.execute("UPDATE lines SET qty = 11 WHERE order_id = 1 AND no = 1")
            await world.source.execute("DELETE FROM lines WHERE order_id = 2")
            await world.source.execute("UPDATE orders SET order_id = 5 WHERE order_id = 2")
            await world.caught_up()
            assert (await world.verified()).clean
        assert await rows(world.target, TARGET_ORDERS) == [
            (1, 71, 100, "Jl. Own", "market"),
            (2, 90, 100, None, "market"),
            (1001, 71, 100, "Jl. A", "social"),
            (1003, 72, 200, "Jl. C", "social"),
            (1004, 72, 200, None, "social"),
            (1005, 71, 100, "Jl. B", "social"),
        ]
        lines = await rows(world.target, "SELECT * FROM baris ORDER BY 1, 2")
        assert lines == [(1001, 1, 11), (1001, 2, 20), (1004, 1, 40)]


async def test_case_13_going_back_loses_nothing_that_the_target_cannot_hold(
    databases: Databases, tmp_path: Path
) -> None:
    """Rows that are touched on the target keep at the source what did not cross, unless it was changed there."""
    async with two_shops(databases, tmp_path) as world:
        back = world.engine(Direction.REVERSE)
        await back.open()
        await world.engine().copy()
        async with following(world.engine()), following(back):
            await turn(world, "1")
            await world.target.execute("UPDATE pesanan SET number = number || 'x' WHERE channel = 'social'")
            await world.target.execute("UPDATE pesanan SET street = 'Jl. New' WHERE id = 1002")
            await world.target.execute("UPDATE pesanan SET state = 103 WHERE id = 1001")
            await world.target.execute("INSERT INTO pesanan VALUES (1009, 71, 100, 'Jl. D', 'n9', 'social')")
            await world.caught_up(Direction.REVERSE)
            assert await rows(world.source, SOURCE_ORDERS) == [
                (1, "UNPAID", {"street": "Jl. A", "gate": "blue"}, "secret"),
                (2, "HELD", {"street": "Jl. New"}, None),
                (9, "UNPAID", {"street": "Jl. D"}, None),
            ]
            numbers = await rows(world.source, "SELECT number FROM orders ORDER BY order_id")
            assert numbers == [("n1x",), ("n2x",), ("n3",), ("n9",)]
            async with back.verifier() as verifier:
                verdict = await verifier.everything(["1"])
        assert (verdict.clean, verdict.rows) == (True, 7)


async def test_a_difference_in_what_is_kept_in_part_is_still_found(databases: Databases, tmp_path: Path) -> None:
    async with two_shops(databases, tmp_path) as world:
        back = world.engine(Direction.REVERSE)
        await back.open()
        await world.engine().copy()
        async with following(world.engine()), following(back):
            await turn(world, "1")
            await world.caught_up(Direction.REVERSE)
            await world.source.execute('UPDATE orders SET address = \'{"street": "Jl. X"}\' WHERE order_id = 1')
            await world.source.execute("UPDATE orders SET status = 'PAID' WHERE order_id = 2")
            async with back.verifier() as verifier:
                verdict = await verifier.everything(["1"])
        assert sorted(f.key for f in verdict.findings) == [("1",), ("2",)]


async def test_a_row_in_the_way_stops_the_stream_and_is_named(databases: Databases, tmp_path: Path) -> None:
    """Live: never IGNORE, never REPLACE. The row on the target stays what it was."""
    async with two_shops(databases, tmp_path) as world:
        await world.engine().copy()
        await world.target.execute("INSERT INTO pesanan VALUES (1004, 90, 100, 'Jl. Own', 'm4')")
        await world.source.execute("INSERT INTO orders VALUES (4, 2, 'PAID', '{\"street\": \"Jl. Secret\"}', 'n4')")
        with pytest.raises(NeedsOperator) as stop:
            async with asyncio.timeout(20):
                await world.engine().follow()
        assert stop.value.message == (
            "orders: a row that alih did not write stands in the way of 1004: 1004 of public.pesanan has the same value"
            " (constraint pesanan_pkey)"
        )
        assert "Secret" not in str(stop.value)
        assert await rows(world.target, "SELECT street FROM pesanan WHERE id = 1004") == [("Jl. Own",)]
        await world.target.execute("DELETE FROM pesanan WHERE id = 1004")
        await world.engine().open()
        async with following(world.engine()):
            await world.caught_up()
        assert await rows(world.target, "SELECT street FROM pesanan WHERE id = 1004") == [("Jl. Secret",)]


async def test_a_row_in_the_way_by_another_unique_value_is_named_by_keys_alone(
    databases: Databases, tmp_path: Path
) -> None:
    async with two_shops(databases, tmp_path) as world:
        await world.engine().copy()
        await world.source.execute("UPDATE orders SET number = 'm2' WHERE order_id = 3")
        with pytest.raises(NeedsOperator) as stop:
            async with asyncio.timeout(20):
                await world.engine().follow()
        assert stop.value.message == (
            "orders: a row that alih did not write stands in the way of 1003: 2 of public.pesanan has the same value"
            " (constraint pesanan_number_key)"
        )
