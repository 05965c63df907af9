"""The legacy shop keeps its own promises, so that a move has something to break."""

import psycopg
import pytest

from tests.demo.services import ADDRESS, KEYS, at_once, ordered, query, shops, signed
from tests.support.databases import Databases
from tests.support.waiting import until

BALANCE = "SELECT sum(debit), sum(credit), count(*) FROM ledger WHERE order_id = %s"


@pytest.mark.anyio
async def test_concurrent_checkouts_never_sell_more_than_there_is(databases: Databases) -> None:
    async with shops(databases) as world:
        shop, product = f"/api/shops/{world.shop.id}", world.shop.products[0].id
        with psycopg.connect(world.legacy_dsn) as conn:
            conn.execute(b"DELETE FROM carts")
            conn.execute(b"UPDATE stock SET on_hand = 5 WHERE product_id = %s", (product,))
        buyers = [{"X-Buyer-Id": str(buyer), "Idempotency-Key": f"k-{buyer}"} for buyer in world.seeded.buyers[:12]]
        for headers in buyers:
            await world.legacy.post(f"{shop}/cart/items", {"product_id": str(product), "quantity": 1}, **headers)
        answers = await at_once(
            *(world.legacy.post(f"{shop}/orders", {"address": ADDRESS}, **headers) for headers in buyers)
        )
        assert sorted(status for status, _ in answers) == [201] * 5 + [409] * 7
        assert {body["error"] for status, body in answers if status == 409} == {"out_of_stock"}
        assert query(world.legacy_dsn, "SELECT on_hand FROM stock WHERE product_id = %s", product) == [(0,)]
        assert query(world.legacy_dsn, "SELECT count(*) FROM orders WHERE order_id > 1000000060") == [(5,)]
        assert query(world.legacy_dsn, "SELECT count(*) FROM carts") == [(7,)]  # a refused checkout keeps its cart


@pytest.mark.anyio
async def test_one_key_is_one_order_however_often_it_is_sent(databases: Databases) -> None:
    async with shops(databases) as world:
        shop, buyer = f"/api/shops/{world.shop.id}", str(world.seeded.buyers[0])
        item = {"product_id": str(world.shop.products[1].id), "quantity": 2}
        await world.legacy.post(f"{shop}/cart/items", item, **{"X-Buyer-Id": buyer})
        headers = {"X-Buyer-Id": buyer, "Idempotency-Key": "again"}
        answers = await at_once(
            *(world.legacy.post(f"{shop}/orders", {"address": ADDRESS}, **headers) for _ in range(8))
        )
        assert [status for status, _ in answers] == [201] * 8
        assert all(body == answers[0][1] for _, body in answers)
        assert query(world.legacy_dsn, "SELECT count(*) FROM idempotency WHERE key = 'again'") == [(1,)]
        assert query(world.legacy_dsn, "SELECT count(*) FROM orders WHERE order_id > 1000000060") == [(1,)]
        stranger = headers | {"X-Buyer-Id": str(world.seeded.buyers[1])}
        assert (await world.legacy.post(f"{shop}/orders", {"address": ADDRESS}, **stranger))[0] == 404


@pytest.mark.anyio
async def test_a_payment_is_charged_settled_and_booked_once(databases: Databases) -> None:
    async with shops(databases) as world:
        buyer = world.seeded.buyers[2]
        order = await ordered(world, buyer, "buy")
        path, headers = f"/api/shops/{world.shop.id}/orders/{order}", {"X-Buyer-Id": str(buyer)}
        paying = headers | {"Idempotency-Key": "pay"}
        answers = await at_once(*(world.legacy.post(f"{path}/payment", {"method": "qris"}, **paying) for _ in range(4)))
        assert [status for status, _ in answers] == [200] * 4
        assert len({body["charge_id"] for _, body in answers}) == 1
        amount = world.shop.products[0].price_idr
        assert answers[0][1]["gross_amount"] == f"{amount}.00"

        async def settled() -> bool:
            return bool((await world.legacy.get(path, **headers))[1]["payment_status"] == "settlement")

        await until(settled)
        told = signed(f"ORDER-{order}", amount, KEYS["social"])
        repeated = await at_once(
            *(world.legacy.post(f"/api/shops/{world.shop.id}/payments/notices", told) for _ in range(3))
        )
        assert repeated == [(200, {"ok": True})] * 3
        assert query(world.legacy_dsn, BALANCE, order) == [(amount, amount, 3)]
        assert query(world.provider_dsn, "SELECT count(*) FROM charges") == [(1,)]
        _, shown = await world.legacy.get(path, **headers)
        assert shown["status"] == "AWAITING_SHIPMENT"
        assert shown["processed_by"] == "Social (modelled on TikTok Shop)"
        status, invoice = await world.legacy.get(shown["invoice_url"])
        assert status == 200
        assert "Diproses oleh Social (modelled on TikTok Shop)" in invoice


@pytest.mark.anyio
async def test_a_forged_notice_changes_nothing(databases: Databases) -> None:
    async with shops(databases) as world:
        order = await ordered(world, world.seeded.buyers[3], "buy")
        amount = world.shop.products[0].price_idr
        with psycopg.connect(world.legacy_dsn) as conn:
            conn.execute(
                b"INSERT INTO charges (order_id, payee, method, amount, provider_order_id, status, create_time)"
                b" VALUES (%s, 'social', 'va', %s, %s, 'pending', 0)",
                (order, amount, f"ORDER-{order}"),
            )
        path = f"/api/shops/{world.shop.id}/payments/notices"
        forged = await world.legacy.post(path, signed(f"ORDER-{order}", amount, "guessed"))
        cheap = await world.legacy.post(path, signed(f"ORDER-{order}", 1, KEYS["social"]))
        elsewhere = await world.legacy.post(
            f"/api/shops/{world.seeded.shops[1].id}/payments/notices",
            signed(f"ORDER-{order}", amount, KEYS["social"]),
        )
        assert [(status, body["error"]) for status, body in (forged, cheap, elsewhere)] == [
            (403, "bad_signature"),
            (409, "amount_differs"),
            (404, "not_found"),
        ]
        assert query(world.legacy_dsn, "SELECT status FROM charges WHERE order_id = %s", order) == [("pending",)]
        assert query(world.legacy_dsn, BALANCE, order) == [(None, None, 0)]


@pytest.mark.anyio
async def test_the_database_refuses_unbalanced_books_and_impossible_states(databases: Databases) -> None:
    async with shops(databases) as world:
        with psycopg.connect(world.legacy_dsn) as conn:
            conn.execute(b"UPDATE ledger SET credit = credit + 1 WHERE account = 'PLATFORM_FEE'")
            with pytest.raises(psycopg.errors.CheckViolation, match="does not balance"):
                conn.commit()
        with (
            pytest.raises(psycopg.errors.CheckViolation, match="cannot go from COMPLETED to UNPAID"),
            psycopg.connect(world.legacy_dsn) as conn,
        ):
            conn.execute(b"UPDATE orders SET status = 'UNPAID' WHERE status = 'COMPLETED'")


@pytest.mark.anyio
async def test_buyers_see_their_own_orders_newest_first_and_correct_their_profile(databases: Databases) -> None:
    async with shops(databases) as world:
        buyer = {"X-Buyer-Id": str(world.seeded.buyers[4])}
        order = await ordered(world, world.seeded.buyers[4], "buy", 3)
        status, mine = await world.legacy.get("/api/me/orders?limit=1", **buyer)
        total = f"{world.shop.products[0].price_idr * 3}.00"
        shown = {"order_id": order, "shop_id": str(world.shop.id), "status": "UNPAID", "total_amount": total}
        assert (status, mine) == (200, {"orders": [shown]})
        profile = {"name": "Ani", "phone": "+62811", "email": "ani@example.com", "city": "Solo"}
        changed = await world.legacy.post("/api/me/profile", profile, **buyer)
        assert changed == await world.legacy.get("/api/me/profile", **buyer)
        assert changed == (200, profile | {"buyer_id": buyer["X-Buyer-Id"]})
        assert (await world.legacy.get("/api/me/orders"))[0] == 401
