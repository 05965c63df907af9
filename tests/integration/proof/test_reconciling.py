"""Money of both sides, of the kept notices and of the provider's API, matched to the rupiah."""

from datetime import UTC, datetime, timedelta

import pytest

from alih.proof.reconciliation import Reconciliation, Unexplained
from tests.support.sold_shop import BEGAN, FLIPPED, HERE, MOVED, SOLD, TEST, SoldShop

pytestmark = pytest.mark.anyio

DAY = (SOLD + timedelta(hours=7)).date().isoformat()  # in Jakarta


async def what(shop: SoldShop) -> list[tuple[str, str, int]]:
    """What is not explained: sale, difference, rupiah."""
    result = await shop.reconciler.reconcile()
    return [(each.sale, each.what, each.amount_idr) for each in result.unexplained]


def sums(idr: int, sales: int, *, refunds: int = 0, provider: int | None = None) -> dict[str, int]:
    return {
        "orders_idr": idr, "charges_idr": idr, "provider_idr": idr if provider is None else provider,
        "refunds_idr": refunds, "books_idr": idr - refunds, "sales": sales,
    }  # fmt: skip


def lines(result: Reconciliation) -> dict[tuple[str, str, str], dict[str, int]]:
    return {(line.payee, line.tenant, line.day): each.facts() for line, each in result.lines.items()}


async def test_every_line_to_the_rupiah(shop: SoldShop) -> None:
    await shop.sold(11, HERE, 145_000)
    await shop.sold(12, HERE, 99_999)
    await shop.gave_back(51, 12, HERE, 20_000)
    await shop.gave_back(52, 12, HERE, 20_000)
    await shop.sold(21, MOVED, 70_000)
    await shop.sold(31, TEST, 5_000)
    await shop.sold(13, HERE, 1_000, at=BEGAN - timedelta(days=30))  # before alih kept notices: none is there
    shop.collector.charges.pop("ref-13")
    result = await shop.reconciler.reconcile()
    assert result.unexplained == ()
    assert (result.open_sales, result.open_idr) == (0, 0)
    assert lines(result) == {
        ("social", HERE, DAY): sums(244_999, 2, refunds=40_000),
        ("marketplace", MOVED, DAY): sums(70_000, 1),
        ("marketplace", TEST, DAY): sums(5_000, 1),
    }
    assert result.totals.facts() == sums(314_999, 3, refunds=40_000)
    assert result.earlier.facts() == sums(1_000, 1, provider=0)
    assert result.claims == {}
    tests = [line["test"] for line in result.document()["lines"]]  # type: ignore[union-attr, index, call-overload]
    assert sorted(map(bool, tests)) == [False, False, True]


async def test_a_charge_of_the_old_payee_that_settles_after_the_flip_is_claimed(shop: SoldShop) -> None:
    await shop.sold(21, MOVED, 145_000, payee="social")
    await shop.sold(22, MOVED, 100_000, payee="social")
    await shop.gave_back(51, 22, MOVED, 30_000)
    await shop.sold(23, MOVED, 7_000, at=FLIPPED - timedelta(minutes=1))  # settled before: not claimed
    await shop.sold(31, TEST, 5_000, payee="social")  # a trial is no claim
    result = await shop.reconciler.reconcile()
    assert result.unexplained == ()
    assert result.claims == {(MOVED, DAY, "social", "marketplace"): (215_000, 2)}
    assert result.totals.sales == 3


async def test_a_sale_without_a_notice_is_asked_about(shop: SoldShop) -> None:
    await shop.sold(11, HERE)
    shop.controlled("DELETE FROM alih_control.notice")
    result = await shop.reconciler.reconcile()
    assert result.unexplained == ()
    assert lines(result) == {("social", HERE, DAY): sums(145_000, 1)}


async def test_planted_differences_are_named_each_once(shop: SoldShop) -> None:
    for order in range(11, 20):
        await shop.sold(order, HERE, 100_000 + order)
    await shop.gave_back(51, 19, HERE, 20_000)
    await shop.gave_back(52, 19, HERE, 20_000)
    assert await what(shop) == []
    shop.source("UPDATE orders SET total_amount = total_amount + 1 WHERE order_id = 11")
    shop.source("INSERT INTO ledger VALUES (999, 12, 1, 'CLEARING', 100012, 0, 0)")
    shop.collector.charges["ref-13"].gross_idr += 1
    await shop.told(13, HERE, SOLD)
    shop.collector.charges["ref-14"].state = "expire"
    shop.controlled("DELETE FROM alih_control.notice WHERE reference = 'ref-14'")
    shop.source("DELETE FROM refunds WHERE refund_id = 52", "DELETE FROM ledger WHERE entry_id IN (520, 521)")
    shop.target("DELETE FROM jurnal WHERE no IN (520, 521)")
    assert await what(shop) == [
        ("11", "order and charge differ", 1),
        ("12", "ledger and charge differ", 100_012),
        ("13", "charge and provider differ", 1),
        ("14", "the provider has not settled the charge", 100_014),
        ("19", "a refund of the provider is missing at the owner", 20_000),
    ]


async def test_an_order_that_the_owner_has_not_recorded(shop: SoldShop) -> None:
    await shop.sold(11, HERE)
    await shop.sold(21, MOVED)
    shop.source("DELETE FROM orders WHERE order_id = 11", "DELETE FROM ledger WHERE order_id = 11")
    shop.target("DELETE FROM jurnal WHERE pesanan_id = 11")  # of the order only the copy is left
    result = await shop.reconciler.reconcile()
    assert result.unexplained == (
        Unexplained(
            payee="social",
            tenant=HERE,
            day=DAY,
            what="the provider settled what no order knows",
            amount_idr=145_000,
            sale="ref-11",
        ),
    )
    assert result.unexplained_tenants == {HERE}


async def test_a_settlement_that_the_owner_has_not_recorded(shop: SoldShop) -> None:
    await shop.sold(11, HERE)
    shop.source("UPDATE charges SET status = 'pending', settle_time = NULL", "DELETE FROM ledger")
    shop.target("DELETE FROM jurnal WHERE no <> 9000")
    assert await what(shop) == [("11", "the owner has not recorded what the provider settled", 145_000)]


async def test_three_sales_in_the_wrong_ledger(shop: SoldShop) -> None:
    for order in range(21, 26):
        await shop.sold(order, MOVED)
    shop.target("DELETE FROM jurnal WHERE pesanan_id IN (21, 23, 25)")
    wrong = "stands in the ledger of the source, which does not own the shop"
    assert await what(shop) == [
        (order, each, 145_000) for order in ("21", "23", "25") for each in ("ledger and charge differ", wrong)
    ]


async def test_what_is_young_or_on_its_way_is_open(shop: SoldShop) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    await shop.sold(11, HERE, 100_000, at=now)
    await shop.sold(12, HERE, 50_000)
    await shop.sold(13, HERE, 25_000)
    shop.source("DELETE FROM ledger WHERE order_id IN (11, 12)", "DELETE FROM orders WHERE order_id = 13")
    shop.source("DELETE FROM ledger WHERE order_id = 13")
    shop.target("DELETE FROM jurnal WHERE pesanan_id IN (11, 12, 13)", "DELETE FROM pesanan WHERE id = 13")
    shop.controlled("UPDATE alih_control.notice SET delivered_at = NULL WHERE reference IN ('ref-12', 'ref-13')")
    result = await shop.reconciler.reconcile()
    assert result.unexplained == ()
    assert (result.open_sales, result.open_idr) == (3, 175_000)
    assert lines(result) == {}


async def test_the_entry_names_no_sale(shop: SoldShop) -> None:
    await shop.sold(98765, HERE)
    shop.source("UPDATE orders SET total_amount = total_amount + 1")
    result = await shop.reconciler.reconcile()
    entry = result.entry()
    assert entry.kind == "reconciliation"
    assert dict(entry.secrets) == {"u1": "98765"}
    assert "98765" not in str(entry.facts)
    assert entry.facts["unexplained"] == [
        {
            "payee": "social", "tenant": HERE, "day": DAY, "what": "order and charge differ", "amount_idr": 1,
            "sale": "@u1",
        }
    ]  # fmt: skip
    assert result.document()["unexplained"] == [
        {
            "payee": "social", "tenant": HERE, "day": DAY, "what": "order and charge differ", "amount_idr": 1,
            "sale": "98765",
        }
    ]  # fmt: skip
