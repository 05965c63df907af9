"""The compiled SQL run on real rows: there, and back to the very same rows."""

from pathlib import Path

import psycopg
import pytest
from psycopg.types.json import Jsonb

from alih.model.projection import Projection
from tests.integration.contract.two_shops import Connection, TwoShops, rows, two_shops
from tests.support.databases import Databases

pytestmark = pytest.mark.anyio


async def carry(projection: Projection, reads: Connection, writes: Connection) -> None:
    """Write every row of ours as the projection says; the table is empty."""
    expressions = ", ".join(a.sql for a in projection.assignments)
    columns = ", ".join(f'"{a.column}"' for a in projection.assignments)
    found = await rows(
        reads,
        f"SELECT {expressions} FROM {projection.reads} r WHERE {projection.reads_ours or 'true'}",  # noqa: S608
    )
    places = ", ".join(["%s"] * len(projection.assignments))
    async with writes.cursor() as cursor:
        await cursor.executemany(
            f"INSERT INTO {projection.writes} ({columns}) VALUES ({places})",  # noqa: S608
            [[Jsonb(v) if isinstance(v, dict) else v for v in row] for row in found],
        )


async def there(shops: TwoShops) -> None:
    for projection in shops.projections.forward:
        await carry(projection, shops.source, shops.target)


async def test_rows_cross_as_the_contract_says(databases: Databases, tmp_path: Path) -> None:
    async with two_shops(databases, tmp_path) as shops:
        await there(shops)
        assert await rows(shops.target, "SELECT * FROM toko ORDER BY 1") == [(7001, 'Kopi "Tuku"'), (7002, "Batik 50%")]
        assert await rows(
            shops.target, "SELECT id, merchant_id, status, amount_idr, buyer_phone, channel FROM pesanan ORDER BY 1"
        ) == [(11, 7001, 100, 145000, "0812", "social"), (12, 7002, 0, 0, None, "social")]
        assert await rows(shops.target, "SELECT * FROM baris ORDER BY 1, 2") == [(11, 1, 2), (11, 2, 1), (12, 1, 5)]


async def test_rows_come_back_the_same(databases: Databases, tmp_path: Path) -> None:
    crossing = {
        "shops": "SELECT * FROM shops ORDER BY 1",
        "orders": 'SELECT order_id, shop_id, status, total_amount, address, "Made At" FROM orders ORDER BY 1',
        "order_lines": "SELECT * FROM order_lines ORDER BY 1, 2",
    }
    async with two_shops(databases, tmp_path) as shops:
        before = {name: await rows(shops.source, select) for name, select in crossing.items()}
        await there(shops)
        await shops.source.execute("TRUNCATE shops, orders, order_lines")
        for name in ("shops", "orders", "lines"):
            projection = next(p for p in shops.projections.reverse if p.entity == name)
            await carry(projection, shops.target, shops.source)
        assert {name: await rows(shops.source, select) for name, select in crossing.items()} == before
        assert await rows(shops.source, "SELECT count(internal_note) FROM orders") == [(0,)]


async def test_only_rows_of_ours_come_back(databases: Databases, tmp_path: Path) -> None:
    async with two_shops(databases, tmp_path) as shops:
        await shops.target.execute(
            "INSERT INTO pesanan VALUES (91, 7001, 100, 5, NULL, now(), 'marketplace'),"
            " (92, 7001, 103, 6, NULL, now(), 'social')"
        )
        await shops.source.execute("TRUNCATE orders CASCADE")
        projection = next(p for p in shops.projections.reverse if p.entity == "orders")
        await carry(projection, shops.target, shops.source)
        assert await rows(shops.source, "SELECT order_id, shop_id, status FROM orders") == [(92, 1, "UNPAID")]


async def test_both_sides_name_the_same_tenant(databases: Databases, tmp_path: Path) -> None:
    async with two_shops(databases, tmp_path) as shops:
        await there(shops)
        await shops.target.execute(
            "INSERT INTO pesanan VALUES (91, 7001, 100, 5, NULL, now(), 'marketplace');"
            "INSERT INTO baris VALUES (91, 1, 1)"
        )
        expected = {
            "shops": ["1", "2"],
            "orders": ["1", "2"],
            "lines": ["1", "1", "2"],
        }
        for forward in shops.projections.forward:
            here = await rows(shops.source, f"SELECT {forward.tenant_read} FROM {forward.reads} r ORDER BY 1")  # noqa: S608
            across = await rows(shops.target, f"SELECT {forward.tenant_write} FROM {forward.writes} w ORDER BY 1")  # noqa: S608
            assert [t for (t,) in here] == expected[forward.entity]
            assert [t for (t,) in across if t is not None] == expected[forward.entity]
            assert len([t for (t,) in across if t is None]) == (0 if forward.entity == "shops" else 1)


async def test_a_code_that_the_list_does_not_know_stops_at_the_column(databases: Databases, tmp_path: Path) -> None:
    async with two_shops(databases, tmp_path) as shops:
        await shops.source.execute("UPDATE orders SET status = 'LOST' WHERE order_id = 11")
        with pytest.raises(psycopg.errors.NotNullViolation) as caught:
            await there(shops)
        assert caught.value.diag.column_name == "status"


async def test_a_text_that_is_too_long_stops_at_the_column(databases: Databases, tmp_path: Path) -> None:
    async with two_shops(databases, tmp_path) as shops:
        await shops.source.execute("UPDATE shops SET name = repeat('x', 41) WHERE shop_id = 1")
        with pytest.raises(psycopg.errors.StringDataRightTruncation):
            await there(shops)
        assert await rows(shops.target, "SELECT count(*) FROM toko WHERE title LIKE 'xxx%'") == [(0,)]
