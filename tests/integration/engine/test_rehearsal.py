"""What is found out about the rows before any of them crosses. Case 14 of the ways in which good movers lost rows."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from alih import contract as contracts
from alih.model.rehearsal import Obstacle
from alih.postgres import catalog, rehearsal
from tests.integration.engine.unlike_shops import TEXT, loaded, two_shops
from tests.integration.engine.world import World
from tests.support.databases import Databases

pytestmark = pytest.mark.anyio

MET = "the target already has a row with the same {}, which alih did not write; its key there"


async def found(world: World, databases: Databases, directory: Path) -> Sequence[Obstacle]:
    here, there = await catalog.read(world.source), await catalog.read(world.target)
    asked = contracts.rehearse(loaded(databases, directory), here, there)
    return await rehearsal.obstacles(world.source, world.target, asked)


async def test_case_14_what_stands_in_the_way_is_named_before_anything_crosses(
    databases: Databases, tmp_path: Path
) -> None:
    """Every kind of collision with the target's own rows, and among rows that cross; keys only, no other values."""
    async with two_shops(databases, tmp_path) as world:
        assert await found(world, databases, tmp_path) == []
        await world.target.execute("INSERT INTO pesanan VALUES (1002, 71, 100, NULL, 'm3'), (5, 71, 100, NULL, 'n3')")
        await world.target.execute("INSERT INTO merchants VALUES (72, 'Own'), (73, 'Own')")
        problems = await found(world, databases, tmp_path)
        assert [(o.entity, o.what, o.rows, o.examples) for o in problems] == [
            ("shops", MET.format("(merchant_id)"), 1, ("72",)),
            ("orders", "the target's own ids reach to where the offset leads (1001 and above)", 1, ("1002",)),
            ("orders", MET.format("(id)"), 1, ("1002",)),
            ("orders", MET.format("(number)"), 1, ("5",)),
        ]


async def test_rows_that_alih_wrote_are_in_nobodys_way(databases: Databases, tmp_path: Path) -> None:
    async with two_shops(databases, tmp_path) as world:
        await world.engine().copy()
        assert await found(world, databases, tmp_path) == []


async def test_maps_are_total_on_the_rows_or_the_rows_are_named(databases: Databases, tmp_path: Path) -> None:
    async with two_shops(databases, tmp_path) as world:
        await world.source.execute("INSERT INTO shops VALUES (3, 'Nobody links this'), (4, 'Nor this')")
        await world.source.execute("INSERT INTO orders VALUES (6, 3, 'LOST', '{}', 'n6'), (7, 1, 'LOST', '{}', 'n7')")
        unlinked = "shop_id refers to a row of shops that is not linked"
        assert [(o.entity, o.what, o.rows, o.examples) for o in await found(world, databases, tmp_path)] == [
            ("shops", unlinked, 2, ("3", "4")),
            ("shops", "title would be longer than 10 characters", 1, ("3",)),
            ("orders", unlinked, 1, ("3",)),
            ("orders", "the map of state does not list the code", 2, ("LOST",)),
        ]


async def test_reversibility_is_proved_on_the_rows(databases: Databases, tmp_path: Path) -> None:
    """Without `keep` the very rows that would come back changed are counted and named, by key."""
    text = TEXT.replace("      address: the target has only the street\n", "")
    async with two_shops(databases, tmp_path, text) as world:
        problems = await found(world, databases, tmp_path)
        assert [(o.entity, o.what, o.rows, o.examples) for o in problems] == [
            ("orders", "address would not come back as it is", 1, ("1",))
        ]
        await world.source.execute('UPDATE orders SET address = \'{"street": "Jl. A"}\' WHERE order_id = 1')
        assert await found(world, databases, tmp_path) == []


async def test_only_a_tenants_own_rows_hold_it_back(databases: Databases, tmp_path: Path) -> None:
    text = TEXT.replace("      address: the target has only the street\n", "")
    async with two_shops(databases, tmp_path, text) as world:
        here, there = await catalog.read(world.source), await catalog.read(world.target)
        asked = contracts.rehearse(loaded(databases, tmp_path), here, there)
        assert [o.rows for o in await rehearsal.losses(world.source, asked, ["1"])] == [1]
        assert await rehearsal.losses(world.source, asked, ["2"]) == []


async def test_an_offset_beyond_the_targets_type_is_named(databases: Databases, tmp_path: Path) -> None:
    text = TEXT.replace("offset: 1000", "offset: 2147483646")
    async with two_shops(databases, tmp_path, text) as world:
        problems = await found(world, databases, tmp_path)
        assert [(o.entity, o.what, o.rows, o.examples) for o in problems] == [
            ("orders", "id would be outside integer", 2, ("2", "3")),
            ("lines", "pesanan_id would be outside integer", 1, ("2/1",)),
        ]


async def test_an_expression_that_fails_on_a_row_is_named(databases: Databases, tmp_path: Path) -> None:
    text = TEXT.replace("number: number", 'number: {sql: "number::int::text", reverse: "number"}')
    async with two_shops(databases, tmp_path, text) as world:
        problems = await found(world, databases, tmp_path)
        failing = "an expression fails, so nobody can say whether number "
        assert [(o.entity, o.what, o.rows) for o in problems] == [
            ("orders", f"{failing}can be made", None),
            ("orders", f"{failing}would be NULL, which the target refuses", None),
            ("orders", f"{failing}would not come back as it is", None),
        ]
