"""Money goes back once, and never more of it than came; notices may come in any order, or never."""

from decimal import Decimal
from typing import Any

import pytest

from demo.services.payments import authorization
from demo.services.shop import fee
from tests.demo.services import KEYS, Shops, at_once, ordered, paid, query, shops, signed
from tests.support.databases import Databases
from tests.support.waiting import until

pytestmark = pytest.mark.anyio
OWN = {"Authorization": authorization(KEYS["social"])}
BACK = "SELECT account, sum(debit - credit) FROM ledger WHERE order_id = %s AND event = 'REFUND' GROUP BY 1 ORDER BY 1"
STATE = (
    "SELECT charges.status, orders.status, (SELECT count(*) FROM ledger WHERE order_id = orders.order_id)"
    " FROM orders JOIN charges USING (order_id) WHERE order_id = %s"
)


async def ask_back(world: Shops, order: str, key: str, amount_idr: int) -> tuple[int, Any]:
    path = f"/api/shops/{world.shop.id}/orders/{order}/refunds"
    me = {"X-Buyer-Id": str(world.seeded.buyers[0]), "Idempotency-Key": key}
    return await world.legacy.post(path, {"amount": f"{amount_idr}.00", "reason": "pecah"}, **me)


async def tell(world: Shops, order: str, status: str) -> tuple[int, Any]:
    told = signed(f"ORDER-{order}", world.shop.products[0].price_idr, KEYS["social"], status)
    return await world.legacy.post(f"/api/shops/{world.shop.id}/payments/notices", told)


async def at_provider(world: Shops, order: str) -> dict[str, Any]:
    status, shown = await world.provider.get(f"/v2/ORDER-{order}/status", **OWN)
    assert status == 200
    return dict(shown)


async def begun(world: Shops, **faults: float) -> str:
    """An order whose payment was asked for while the provider has these faults."""
    assert (await world.provider.post("/sandbox/faults", faults))[0] == 200
    order = await ordered(world, world.seeded.buyers[0], "buy")
    headers = {"X-Buyer-Id": str(world.seeded.buyers[0]), "Idempotency-Key": "buy"}
    path = f"/api/shops/{world.shop.id}/orders/{order}/payment"
    assert (await world.legacy.post(path, {"method": "va"}, **headers))[0] == 200
    return order


async def test_two_equal_parts_are_two_and_the_fee_goes_back_with_them(databases: Databases) -> None:
    async with shops(databases) as world:
        order, total = await paid(world, world.seeded.buyers[0], "buy"), world.shop.products[0].price_idr
        part = total // 3 + 1
        same = await at_once(*(ask_back(world, order, "one", part) for _ in range(3)))
        assert same == [same[0]] * 3
        assert (same[0][0], same[0][1]["amount"], same[0][1]["status"]) == (200, f"{part}.00", "settled")
        equal = (await ask_back(world, order, "two", part))[1]
        assert equal["refund_id"] != same[0][1]["refund_id"]
        assert (await ask_back(world, order, "two", part - 1))[1]["error"] == "attempt_differs"
        assert query(world.legacy_dsn, STATE, order) == [("partial_refund", "AWAITING_SHIPMENT", 9)]
        assert (await ask_back(world, order, "rest", total - 2 * part))[0] == 200
        assert (await ask_back(world, order, "more", 1))[1]["error"] == "not_refundable"
        shown = await at_provider(world, order)
        assert (shown["transaction_status"], shown["refund_amount"]) == ("refund", f"{total}.00")
        assert [refund["refund_amount"] for refund in shown["refunds"]] == [
            f"{part}.00", f"{part}.00", f"{total - 2 * part}.00"
        ]  # fmt: skip
        assert query(world.legacy_dsn, BACK, order) == [
            ("CLEARING", Decimal(-total)), ("PLATFORM_FEE", Decimal(fee(total))),
            ("SELLER_PAYABLE", Decimal(total - fee(total))),
        ]  # fmt: skip
        assert query(world.legacy_dsn, STATE, order) == [("refund", "AWAITING_SHIPMENT", 12)]


async def test_refunds_at_once_never_give_back_more_than_was_paid(databases: Databases) -> None:
    async with shops(databases) as world:
        order, total = await paid(world, world.seeded.buyers[0], "buy"), world.shop.products[0].price_idr
        answers = await at_once(*(ask_back(world, order, f"k-{n}", total * 2 // 5) for n in range(6)))
        assert sorted(status for status, _ in answers) == [200] * 2 + [409] * 4
        assert query(world.provider_dsn, "SELECT count(*), sum(amount)::bigint FROM refunds") == [
            (2, total * 2 // 5 * 2)
        ]
        stranger = {"X-Buyer-Id": str(world.seeded.buyers[1]), "Idempotency-Key": "not-mine"}
        path = f"/api/shops/{world.shop.id}/orders/{order}/refunds"
        asked = {"amount": "1.00", "reason": ""}
        assert (await world.legacy.post(path, asked, **stranger))[0] == 404
        assert (await world.legacy.post(path, asked | {"amount": "0.50"}, **stranger))[0] == 400


async def test_an_order_that_is_unpaid_or_unknown_to_the_provider_gets_nothing_back(databases: Databases) -> None:
    async with shops(databases) as world:
        order = await ordered(world, world.seeded.buyers[0], "buy")
        assert (await ask_back(world, order, "k", 1))[0] == 404  # there is no charge
        order = await begun(world, slow=1.0)
        assert (await ask_back(world, order, "k", 1))[1]["error"] == "not_refundable"
        assert (await tell(world, order, "settlement"))[0] == 200  # signed, but the provider's record is not there yet
        refused = await ask_back(world, order, "k", 1)
        assert (refused[0], refused[1]["status"]) == (200, "refused")
        assert await ask_back(world, order, "k", 1) == refused
        assert query(world.legacy_dsn, STATE, order) == [("settlement", "AWAITING_SHIPMENT", 3)]


async def test_a_refund_that_is_told_before_its_settlement_brings_both(databases: Databases) -> None:
    async with shops(databases) as world:
        order, total = await begun(world, lost=1.0), world.shop.products[0].price_idr

        async def settled() -> bool:
            return bool((await at_provider(world, order))["transaction_status"] == "settlement")

        await until(settled)
        for _ in range(2):  # somebody at the provider gives two equal parts back
            given = await world.provider.post(f"/v2/ORDER-{order}/refund", {"amount": total // 4}, **OWN)
            assert given[1]["transaction_status"] == "partial_refund"
        assert query(world.legacy_dsn, STATE, order) == [("pending", "UNPAID", 0)]
        for status in ("partial_refund", "partial_refund", "settlement"):
            assert await tell(world, order, status) == (200, {"ok": True})
            assert query(world.legacy_dsn, STATE, order) == [("partial_refund", "AWAITING_SHIPMENT", 9)]
        assert query(world.legacy_dsn, BACK, order)[0] == ("CLEARING", Decimal(-2 * (total // 4)))
        assert (await ask_back(world, order, "k", total - 2 * (total // 4) + 1))[1]["error"] == "not_refundable"


async def test_a_notice_of_refunds_that_the_provider_does_not_know_gives_nothing_back(databases: Databases) -> None:
    async with shops(databases) as world:
        order = await paid(world, world.seeded.buyers[0], "buy")
        path = f"/api/shops/{world.shop.id}/payments/notices"
        told = signed(f"ORDER-{order}", world.shop.products[0].price_idr, KEYS["social"], "refund")
        forged = {"refund_key": "x", "refund_amount": told["gross_amount"], "reason": ""}
        assert (await world.legacy.post(path, told | {"refunds": [forged]}))[0] == 200
        assert query(world.legacy_dsn, STATE, order) == [("settlement", "AWAITING_SHIPMENT", 3)]


@pytest.mark.parametrize("ending", ["cancel", "expire"])
async def test_a_charge_that_is_given_up_cancels_its_order_and_frees_its_stock(
    databases: Databases, ending: str
) -> None:
    async with shops(databases) as world:
        stock = "SELECT on_hand FROM stock WHERE product_id = %s"
        (before,) = query(world.legacy_dsn, stock, world.shop.products[0].id)
        order = await begun(world, slow=1.0)
        assert (await world.provider.post(f"/v2/ORDER-{order}/{ending}", {}, **OWN))[0] == 200

        async def told() -> bool:
            return query(world.legacy_dsn, STATE, order) == [(ending, "CANCELLED", 0)]

        await until(told)
        assert query(world.legacy_dsn, stock, world.shop.products[0].id) == [before]
        again = await world.provider.post(f"/v2/ORDER-{order}/{ending}", {}, **OWN)
        assert (again[0], again[1]["status_code"]) == (412, "412")
        assert (await tell(world, order, "settlement"))[0] == 200
        assert query(world.legacy_dsn, STATE, order) == [(ending, "CANCELLED", 0)]


async def test_a_provider_that_did_it_and_never_answered_has_done_it_once(databases: Databases) -> None:
    async with shops(databases) as world:
        order, total = await begun(world, timeout_after_success=1.0), world.shop.products[0].price_idr

        async def settled() -> bool:
            return query(world.legacy_dsn, STATE, order) == [("settlement", "AWAITING_SHIPMENT", 3)]

        await until(settled)
        answers = [await ask_back(world, order, "k", total // 2) for _ in range(2)]
        assert answers[0] == answers[1]
        assert answers[0][1]["status"] == "settled"
        assert query(world.provider_dsn, "SELECT count(*) FROM charges") == [(1,)]
        assert query(world.provider_dsn, "SELECT refund_key FROM refunds") == [
            (f"REFUND-{answers[0][1]['refund_id']}",)
        ]
        charged = query(world.legacy_dsn, "SELECT transaction_id, va_number FROM charges WHERE order_id = %s", order)
        shown = await at_provider(world, order)
        assert charged == [(shown["transaction_id"], shown["va_numbers"][0]["va_number"])]


async def test_late_repeated_and_reordered_notices_leave_the_books_as_they_are(databases: Databases) -> None:
    async with shops(databases) as world:
        order = await begun(world, late=0.5, repeated=1.0, reordered=0.5, late_s=0.1, seed=5)
        total = world.shop.products[0].price_idr

        async def settled() -> bool:
            return bool(query(world.legacy_dsn, STATE, order)[0][0] == "settlement")

        await until(settled)
        for key in ("a", "b"):
            assert (await ask_back(world, order, key, total // 4))[1]["status"] == "settled"

        async def all_taken() -> bool:
            return query(world.provider_dsn, "SELECT count(*), count(taken_at) FROM notices") == [(3, 3)]

        await until(all_taken)
        assert query(world.legacy_dsn, STATE, order) == [("partial_refund", "AWAITING_SHIPMENT", 9)]
