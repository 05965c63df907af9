"""The marketplace takes over what the contract brings, and keeps its own trade to itself."""

from datetime import datetime
from decimal import Decimal

import psycopg
import pytest

from tests.demo.services import (
    ADDRESS,
    KEYS,
    Shops,
    at_once,
    move,
    move_all,
    paid,
    projections,
    query,
    shops,
    signed,
)
from tests.support.databases import Databases

BALANCE = "SELECT sum(CASE side WHEN 1 THEN amount_idr ELSE -amount_idr END), count(*) FROM journal_entries"


@pytest.mark.anyio
async def test_what_crossed_comes_back_as_it_was(databases: Databases) -> None:
    async with shops(databases) as world:
        await refunded(world)
        await move_all(world)
        compiled = await projections(world.legacy_dsn, world.marketplace_dsn)
        columns = {p.entity: sorted(a.column for a in p.assignments) for p in compiled.reverse}
        before = {p.entity: _rows(world.legacy_dsn, p.writes.name, columns[p.entity]) for p in compiled.reverse}
        own = query(world.marketplace_dsn, "SELECT count(*) FROM trade_orders WHERE channel = 'marketplace'")
        with psycopg.connect(world.legacy_dsn) as legacy, psycopg.connect(world.marketplace_dsn) as marketplace:
            marketplace.execute(b"SET session_replication_role = replica")
            _forget_own_trade(marketplace)
            legacy.execute(b"SET session_replication_role = replica")
            legacy.execute(b"CREATE SCHEMA alih; CREATE TABLE alih.link (entity text, source_id text, target_id text)")
            for shop, merchant in world.seeded.merchants.items():
                legacy.execute(b"INSERT INTO alih.link VALUES ('shops', %s, %s)", (str(shop), str(merchant)))
            for projection in compiled.reverse:
                legacy.execute(f"DELETE FROM {projection.writes.name}".encode())  # noqa: S608  # a table of the contract
                move(legacy, projection, marketplace)
        after = {p.entity: _rows(world.legacy_dsn, p.writes.name, columns[p.entity]) for p in compiled.reverse}
        assert own == [(34,)]
        crossed = {name: len(rows) for name, rows in before.items()}
        assert (crossed["orders"], crossed["refunds"]) == (61, 1)
        assert after == before


async def refunded(world: Shops) -> str:
    """Buy, pay and get a fourth back at the legacy shop; returns the order's id."""
    buyer = world.seeded.buyers[0]
    order = await paid(world, buyer, "back")
    asked = {"amount": f"{world.shop.products[0].price_idr // 4}.00", "reason": "pecah"}
    headers = {"X-Buyer-Id": str(buyer), "Idempotency-Key": "back"}
    path = f"/api/shops/{world.shop.id}/orders/{order}/refunds"
    assert (await world.legacy.post(path, asked, **headers))[1]["status"] == "settled"
    return order


@pytest.mark.anyio
async def test_a_refund_begun_before_the_move_is_the_same_one_after_it(databases: Databases) -> None:
    async with shops(databases) as world:
        order, part = await refunded(world), world.shop.products[0].price_idr // 4
        await move_all(world)
        path = f"/v2/fs/{world.merchant}/order/{order}"
        me = {"X-User-Id": str(world.seeded.buyers[0])}
        asked = {"amount_idr": part, "reason": "pecah"}
        answers = [
            await world.marketplace.post(f"{path}/refund", asked, **me, **{"Idempotency-Key": key})
            for key in ("back", "new", "new")
        ]
        given = [body["data"]["refund_id"] for _, body in answers]
        assert given[0] < 7_000_000_000 < given[1] == given[2]
        assert {body["data"]["state"] for _, body in answers} == {2}
        assert (await world.marketplace.get(path, **me))[1]["data"]["payment_state"] == 4
        # The old payee collected the money, and gives both parts back.
        assert query(world.provider_dsn, "SELECT account, transaction_status FROM charges") == [
            ("social", "partial_refund")
        ]
        assert query(world.provider_dsn, "SELECT refund_key, amount FROM refunds ORDER BY refund_id") == [
            (f"REFUND-{refund_id}", part) for refund_id in given[:2]
        ]
        assert query(world.marketplace_dsn, f"{BALANCE} WHERE order_id = %s", order) == [(0, 9)]
        rest = world.shop.products[0].price_idr - 2 * part
        too_much = await world.marketplace.post(
            f"{path}/refund", asked | {"amount_idr": rest + 1}, **me, **{"Idempotency-Key": "more"}
        )
        assert (too_much[0], too_much[1]["error"]["code"]) == (409, "not_refundable")


def _rows(dsn: str, table: str, columns: list[str]) -> list[tuple[object, ...]]:
    return sorted(query(dsn, f"SELECT {', '.join(columns)} FROM {table}"), key=repr)  # noqa: S608  # names of the contract


def _forget_own_trade(conn: psycopg.Connection) -> None:
    conn.execute(
        b"DELETE FROM payments USING trade_orders o WHERE o.order_id = payments.order_id AND channel <> 'social'"
    )
    conn.execute(
        b"DELETE FROM trade_order_items USING trade_orders o"
        b" WHERE o.order_id = trade_order_items.order_id AND channel <> 'social'"
    )
    for table in ("users", "catalog_items", "inventory", "basket_items", "trade_orders", "journal_entries"):
        conn.execute(f"DELETE FROM {table} WHERE channel <> 'social'".encode())  # noqa: S608  # names from above


async def filled(world: Shops, buyer: int, quantity: int = 1) -> dict[str, str]:
    """Put the shop's first product into the buyer's basket; returns the buyer's headers."""
    headers = {"X-User-Id": str(buyer)}
    item = {"item_id": world.shop.products[0].id, "qty": quantity}
    assert (await world.marketplace.post(f"/v2/fs/{world.merchant}/basket", item, **headers))[0] == 200
    return headers


@pytest.mark.anyio
async def test_a_key_that_the_legacy_shop_knew_names_the_same_order(databases: Databases) -> None:
    async with shops(databases) as world:
        await move_all(world)
        keys = "SELECT key, shop_id, order_id, buyer_id FROM idempotency JOIN orders USING (shop_id, order_id)"
        key, shop, order, buyer = query(world.legacy_dsn, f"{keys} WHERE kind = 'checkout'")[0]
        path = f"/v2/fs/{world.seeded.merchants[shop]}/order"
        headers = {"X-User-Id": str(buyer), "Idempotency-Key": key}
        status, body = await world.marketplace.post(path, {"recipient": ADDRESS}, **headers)
        assert (status, body["data"]["order_id"]) == (201, order)
        assert query(world.marketplace_dsn, "SELECT count(*) FROM trade_orders WHERE channel = 'social'") == [(60,)]


@pytest.mark.anyio
async def test_concurrent_orders_never_sell_more_than_there_is(databases: Databases) -> None:
    async with shops(databases) as world:
        await move_all(world)
        product, path = world.shop.products[0].id, f"/v2/fs/{world.merchant}/order"
        with psycopg.connect(world.marketplace_dsn) as conn:
            conn.execute(b"DELETE FROM basket_items")
            conn.execute(b"UPDATE inventory SET available = 4 WHERE item_id = %s", (product,))
        buyers = [await filled(world, buyer) | {"Idempotency-Key": f"k-{buyer}"} for buyer in world.seeded.buyers[:9]]
        twice = [headers for headers in buyers for _ in range(2)]
        answers = await at_once(*(world.marketplace.post(path, {"recipient": ADDRESS}, **h) for h in twice))
        placed = {body["data"]["order_id"] for status, body in answers if status == 201}
        assert len(placed) == 4
        assert min(placed) > 7_000_000_000
        assert {body["error"]["code"] for status, body in answers if status != 201} == {"out_of_stock"}
        assert query(world.marketplace_dsn, "SELECT available FROM inventory WHERE item_id = %s", product) == [(0,)]


@pytest.mark.anyio
async def test_a_charge_begun_before_the_move_is_settled_by_the_old_payees_notice(databases: Databases) -> None:
    async with shops(databases) as world:
        with psycopg.connect(world.legacy_dsn) as conn:
            order, amount, shop = _unpaid(conn)
        await move_all(world)
        before = query(world.marketplace_dsn, BALANCE)[0][1]
        path = f"/v2/fs/{world.seeded.merchants[shop]}/payments/notices"
        forged = await world.marketplace.post(path, signed(f"ORDER-{order}", amount, KEYS["marketplace"]))
        assert (forged[0], forged[1]["error"]["code"]) == (403, "bad_signature")
        for _ in range(2):
            status, body = await world.marketplace.post(path, signed(f"ORDER-{order}", amount, KEYS["social"]))
            assert (status, body["data"]) == (200, {"ok": True})
        paid = query(world.marketplace_dsn, "SELECT status, paid_at FROM trade_orders WHERE order_id = %s", order)
        assert paid[0][0] == 220
        assert isinstance(paid[0][1], datetime)
        assert query(world.marketplace_dsn, BALANCE) == [(Decimal(0), before + 3)]


def _unpaid(conn: psycopg.Connection) -> tuple[int, int, int]:
    """An order of the legacy shop whose charge is pending: (order, rupiah, shop)."""
    order, amount, shop = conn.execute(
        b"INSERT INTO orders (shop_id, buyer_id, status, total_amount, address, create_time)"
        b" SELECT shop_id, buyer_id, 'UNPAID', total_amount, address, create_time FROM orders LIMIT 1"
        b" RETURNING order_id, total_amount::bigint, shop_id"
    ).fetchall()[0]
    conn.execute(
        b"INSERT INTO charges (order_id, payee, method, amount, provider_order_id, status, create_time)"
        b" VALUES (%s, 'social', 'va', %s, %s, 'pending', 0)",
        (order, amount, f"ORDER-{order}"),
    )
    return order, amount, shop


@pytest.mark.anyio
async def test_new_payments_go_to_the_marketplace_and_repeat_as_one_attempt(databases: Databases) -> None:
    async with shops(databases) as world:
        await move_all(world)
        headers = await filled(world, world.seeded.buyers[0], 2) | {"Idempotency-Key": "new"}
        path = f"/v2/fs/{world.merchant}/order"
        _, body = await world.marketplace.post(path, {"recipient": ADDRESS}, **headers)
        order = body["data"]["order_id"]
        assert body["data"]["invoice_path"] == f"/api/shops/{world.shop.id}/orders/{order}/invoice"
        assert body["data"]["buyer_phone"].startswith("+62")  # what partners must not pass on
        paid = await at_once(
            *(world.marketplace.post(f"{path}/{order}/payment", {"method": "1"}, **headers) for _ in range(3))
        )
        assert len({body["data"]["payment_id"] for _, body in paid}) == 1
        assert query(world.provider_dsn, "SELECT account, notification_url FROM charges") == [
            ("marketplace", f"{world.legacy.url}/api/shops/{world.shop.id}/payments/notices")
        ]
        other = await world.marketplace.post(f"{path}/{order}/payment", {"method": "2"}, **headers)
        assert (other[0], other[1]["error"]["code"]) == (409, "attempt_differs")


@pytest.mark.anyio
async def test_partners_see_the_social_channel_only_and_need_their_token(databases: Databases) -> None:
    async with shops(databases) as world:
        path = f"/v2/fs/{world.merchant}/products"
        assert (await world.marketplace.get(path))[1]["data"] == {"items": []}  # its own six are not for the partner
        assert (await world.marketplace.get(path, Authorization="Bearer wrong"))[0] == 401
        await move_all(world)
        items = (await world.marketplace.get(path))[1]["data"]["items"]
        assert [item["item_id"] for item in items] == [product.id for product in world.shop.products]
