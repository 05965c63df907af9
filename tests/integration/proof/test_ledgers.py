"""Both sides' sales in one form, on real servers, and the question of which side counts."""

from datetime import timedelta

import pytest
from psycopg import sql

from alih.model.side import Side
from alih.postgres.recorded import EVERYBODY
from alih.postgres.sales import Booked, Charge, Pending, Refund, Sale
from alih.proof.sales import Misplaced
from tests.support.sold_shop import BEGAN, HERE, MOVED, SOLD, TEST, SoldShop

pytestmark = pytest.mark.anyio


async def test_one_form_for_both_sides(shop: SoldShop) -> None:
    await shop.sold(11, HERE, 145_000)
    await shop.gave_back(51, 11, HERE, 20_000)
    sides = await shop.ledgers.sale("11")
    assert sides[Side.SOURCE] == sides[Side.TARGET] == Sale(
        tenant=HERE,
        order="11",
        amount_idr=145_000,
        at=SOLD,
        charges=(Charge("social", "ref-11", 145_000, settled=True, at=SOLD, settled_at=SOLD),),
        refunds=(Refund("key-51", 20_000, settled=True),),
        entries=(Booked("110", 145_000), Booked("111", 0), Booked("510", -20_000), Booked("511", 0)),
        refunded_at=SOLD,
    )  # fmt: skip


async def test_what_is_no_sale_of_ours(shop: SoldShop) -> None:
    await shop.sold(11, HERE)
    for order in ("900", "17", "011", "x", "", "99999999999999999999", "11 "):  # 900 is the marketplace's own
        assert await shop.ledgers.sale(order) == {Side.SOURCE: None, Side.TARGET: None}, order


async def test_each_shop_as_its_owner_has_it(shop: SoldShop) -> None:
    for order, tenant in ((11, HERE), (21, MOVED), (31, TEST)):
        await shop.sold(order, tenant)
    shop.source("UPDATE orders SET total_amount = 1")
    amounts = {sale.order: (side, sale.amount_idr) async for side, sale in shop.ledgers.recorded()}
    assert amounts == {"11": (Side.SOURCE, 1), "21": (Side.TARGET, 145_000), "31": (Side.TARGET, 145_000)}


async def test_open_charges_are_the_owners(shop: SoldShop) -> None:
    for order, tenant in ((11, HERE), (21, MOVED), (31, TEST)):
        await shop.sold(order, tenant)
    assert await shop.ledgers.open_charges() == []
    shop.source("UPDATE charges SET status = 'pending'")
    shop.target("UPDATE pembayaran SET state = 0 WHERE id = 21")
    assert await shop.ledgers.open_charges() == [
        Pending(HERE, "social", "ref-11", SOLD),
        Pending(MOVED, "marketplace", "ref-21", SOLD),
    ]


async def test_the_population(shop: SoldShop) -> None:
    for order, tenant in ((11, HERE), (12, HERE), (21, MOVED), (31, TEST)):
        await shop.sold(order, tenant)
    await shop.sold(13, HERE, at=BEGAN - timedelta(days=1))  # seen all the same
    shop.source("UPDATE charges SET status = 'pending' WHERE order_id = 12")
    assert await shop.ledgers.population() == ["11", "13", "21"]
    shop.source("DELETE FROM orders WHERE order_id = 11")
    shop.target("DELETE FROM pesanan WHERE id = 11")
    assert await shop.ledgers.population() == ["11", "13", "21"]  # seen, and recorded nowhere: all the more


async def test_the_same_seed_draws_the_same_sales(shop: SoldShop) -> None:
    for order in range(11, 41):
        await shop.sold(order, HERE)
    drawn, size = await shop.ledgers.sampled(5, seed=31)
    assert size == 30
    assert len(set(drawn)) == 5
    assert await shop.ledgers.sampled(5, seed=31) == (drawn, 30)
    assert (await shop.ledgers.sampled(5, seed=32))[0] != drawn
    assert len((await shop.ledgers.sampled(100, seed=31))[0]) == 30


async def test_nothing_is_misplaced_while_copies_are_behind(shop: SoldShop) -> None:
    for order, tenant in ((11, HERE), (21, MOVED)):
        await shop.sold(order, tenant)
    shop.target("DELETE FROM jurnal WHERE pesanan_id = 11")
    shop.source("DELETE FROM ledger WHERE order_id = 21", "DELETE FROM orders WHERE order_id = 21")
    shop.source("INSERT INTO ledger VALUES (1, NULL, 2, 'CLEARING', 5, 0, 0)")  # of no order: not a sale's
    assert await shop.ledgers.misplaced() == []


async def test_three_sales_in_the_wrong_ledger_are_named_and_no_other(shop: SoldShop) -> None:
    for order in range(11, 16):
        await shop.sold(order, HERE)
    for order in range(21, 26):
        await shop.sold(order, MOVED)
    shop.source("DELETE FROM ledger WHERE order_id = 12")
    shop.target("UPDATE jurnal SET no = no + 100000 WHERE pesanan_id = 12")  # moved, under new numbers
    shop.target("DELETE FROM jurnal WHERE pesanan_id IN (23, 25)")
    shop.source("DELETE FROM orders WHERE order_id = 25")  # its order is not even there
    wrong = await shop.ledgers.misplaced()
    assert [(each.order, each.tenant, each.side, each.received_idr) for each in wrong] == [
        ("12", HERE, Side.TARGET, 145_000),
        ("23", MOVED, Side.SOURCE, 145_000),
        ("25", MOVED, Side.SOURCE, 145_000),
    ]
    assert wrong[0] == Misplaced(
        tenant=HERE, order="12", side=Side.TARGET, entries=(Booked("100120", 145_000), Booked("100121", 0))
    )


async def test_a_copy_with_another_amount_is_misplaced(shop: SoldShop) -> None:
    await shop.sold(21, MOVED)
    shop.source("UPDATE ledger SET debit = debit + 1 WHERE entry_id = 210")
    assert [each.entries for each in await shop.ledgers.misplaced()] == [(Booked("210", 145_001),)]


async def test_a_code_that_the_way_back_does_not_know_is_no_settlement(shop: SoldShop) -> None:
    await shop.sold(21, MOVED)
    shop.target("UPDATE pembayaran SET state = 77")
    sale = (await shop.ledgers.sale("21"))[Side.TARGET]
    assert sale is not None
    assert not sale.settled


async def test_a_sale_is_found_by_its_index(shop: SoldShop) -> None:
    """The plan of a single sale reads no table from end to end, on either side."""
    shop.source("INSERT INTO orders SELECT n, 1, 5, 0 FROM generate_series(1, 20000) n", "ANALYZE orders")
    shop.target("INSERT INTO pesanan SELECT n, 7001, 'social', 5, now() FROM generate_series(1000, 20000) n", "ANALYZE")
    for side, books in shop.books.items():
        query = books._views["orders"].rows(["17000"])
        plan = str(await books._rows(_explained(query)))
        assert "Index" in plan, (side, plan)
        assert await books.sales(["17000"])


def _explained(query: sql.Composed) -> sql.Composed:
    return sql.SQL("EXPLAIN SELECT * FROM {} o WHERE {}").format(query, EVERYBODY.condition(sql.SQL("o.tenant")))
