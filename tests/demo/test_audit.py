"""The audit is clean where all agree, and names exactly what does not: each check can fail."""

import asyncio
from pathlib import Path

import pytest

from demo.audit import Finding, Keeper, Opening, audit, opening
from demo.shoppers import Shoppers
from tests.support.databases import Databases
from tests.support.little_shop import LittleShop, serving
from tests.support.moved_shop import (
    CHARGE,
    FIRST,
    OWN,
    PAST,
    PRICE_IDR,
    PRODUCT,
    SECOND,
    SHOP,
    MovedShop,
    moved_shop,
    refund,
    sale,
)
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


@pytest.fixture
async def shop(databases: Databases, tmp_path: Path) -> MovedShop:
    return await moved_shop(databases, tmp_path / "diary.jsonl")


def named(findings: tuple[Finding, ...]) -> set[tuple[str, str]]:
    return {(finding.kind, finding.subject) for finding in findings}


async def test_where_all_agree_there_is_nothing_to_find(shop: MovedShop) -> None:
    audited = await shop.audited()
    assert [str(finding) for finding in audited.findings] == []
    assert audited.figures == {
        "requests": {"total": 2, "succeeded": 2, "failed": 0, "refused": 0},
        "orders": {"told": 2, "recorded": 2, "lost": 0, "doubled": 0},
        "charges": {"attempted": 2, "doubled": 0, "unaccounted_idr": 0},
        "refunds": {"told": 0, "recorded": 0, "different": 0},
        "past_orders": {"seeded": 1, "legacy": 1, "marketplace": 1},
        "stray_writes": 0,
        "hosts_visited": 1,
        "findings": 0,
    }


async def test_an_order_deleted_at_its_owner_is_lost(shop: MovedShop) -> None:
    shop.marketplace("DELETE FROM request_keys WHERE order_id = %(order)s", sale(FIRST, 1))
    shop.marketplace("DELETE FROM journal_entries WHERE order_id = %(order)s", sale(FIRST, 1))
    shop.marketplace("DELETE FROM payments WHERE order_id = %(order)s", sale(FIRST, 1))
    shop.marketplace("DELETE FROM trade_order_items WHERE order_id = %(order)s", sale(FIRST, 1))
    shop.marketplace("DELETE FROM trade_orders WHERE order_id = %(order)s", sale(FIRST, 1))
    audited = await shop.audited()
    assert named(audited.findings) == {
        ("order lost", str(FIRST)),
        ("order one-sided", str(FIRST)),
        ("money unaccounted", str(FIRST)),
        ("charge lost", str(FIRST)),
    }
    assert audited.figures["orders"] == {"told": 2, "recorded": 1, "lost": 1, "doubled": 0}


async def test_one_rupiah_off_is_named(shop: MovedShop) -> None:
    shop.marketplace("UPDATE trade_orders SET amount_idr = amount_idr + 1 WHERE order_id = %(order)s", sale(FIRST, 1))
    audited = await shop.audited()
    assert set(map(str, audited.findings)) == {
        f"order amount {FIRST}: told {PRICE_IDR} rupiah, recorded {PRICE_IDR + 1}",
        f"order differs {FIRST}: shop, amount, payment or refunds differ between the sides",
    }
    assert audited.figures["orders"] == {"told": 2, "recorded": 1, "lost": 0, "doubled": 0}


async def test_a_second_charge_for_one_attempt_is_doubled_and_its_money_unaccounted(shop: MovedShop) -> None:
    shop.provider(CHARGE, {"reference": f"ORDER-{SECOND}-2", "idr": 2 * PRICE_IDR})
    audited = await shop.audited()
    assert set(map(str, audited.findings)) == {
        f"charge doubled {SECOND}: charged 2 times at the provider: ORDER-{SECOND}, ORDER-{SECOND}-2",
        f"money unaccounted {SECOND}: {4 * PRICE_IDR} rupiah received, {2 * PRICE_IDR} booked by its owner",
    }
    assert audited.figures["charges"] == {"attempted": 2, "doubled": 1, "unaccounted_idr": 2 * PRICE_IDR}


async def test_a_booking_made_twice_is_doubled_and_its_money_unaccounted(shop: MovedShop) -> None:
    shop.marketplace("DROP INDEX journal_settles_once")
    shop.marketplace(
        """INSERT INTO journal_entries (order_id, merchant_id, channel, event, account, side, amount_idr, booked_at)
           SELECT order_id, merchant_id, channel, event, account, side, amount_idr, booked_at
             FROM journal_entries WHERE order_id = %(order)s""",
        sale(FIRST, 1),
    )
    audited = await shop.audited()
    assert named(audited.findings) == {("booking doubled", str(FIRST)), ("money unaccounted", str(FIRST))}
    assert audited.figures["charges"] == {"attempted": 2, "doubled": 1, "unaccounted_idr": PRICE_IDR}


async def test_a_settlement_booked_once_at_each_side_is_doubled(shop: MovedShop) -> None:
    shop.legacy(
        "UPDATE ledger SET entry_id = entry_id + 900000 WHERE order_id = %(order)s AND debit > 0", sale(FIRST, 1)
    )
    audited = await shop.audited()
    assert set(map(str, audited.findings)) == {f"booking doubled {FIRST}: received once at each side, as two entries"}


async def test_one_key_with_an_order_at_each_side_is_doubled(shop: MovedShop) -> None:
    other = SECOND + 1
    shop.record(Keeper.LEGACY, sale(other, 1, sold=False) | {"key": "another"})
    shop.legacy("DELETE FROM idempotency WHERE key = 'another'")
    shop.legacy(
        "UPDATE idempotency SET order_id = %(other)s WHERE order_id = %(order)s", sale(FIRST, 1) | {"other": other}
    )
    audited = await shop.audited()
    assert f"order doubled {FIRST}: one key also has order {other}" in set(map(str, audited.findings))
    assert ("order one-sided", str(other)) in named(audited.findings)
    assert audited.figures["orders"] == {"told": 2, "recorded": 2, "lost": 0, "doubled": 1}


async def test_one_order_told_for_two_keys_is_one_lost(shop: MovedShop) -> None:
    lines = shop.diary_path.read_text(encoding="utf-8").splitlines()
    again = next(line for line in lines if '"kind": "order"' in line).replace(f"key-{FIRST}", "another")
    shop.diary_path.write_text("\n".join([*lines, again]) + "\n", encoding="utf-8")
    audited = await shop.audited()
    assert ("order lost", str(FIRST)) in named(audited.findings)
    assert audited.figures["orders"] == {"told": 2, "recorded": 1, "lost": 1, "doubled": 0}


async def test_a_write_at_the_losing_side_is_named(shop: MovedShop) -> None:
    stray = SECOND + 1
    shop.record(Keeper.LEGACY, sale(stray, 3))
    audited = await shop.audited()
    assert named(audited.findings) == {
        ("order unasked", str(stray)),
        ("order one-sided", str(stray)),
        ("stock", str(PRODUCT)),
    }


async def test_a_past_order_that_is_missing_or_changed_is_named_with_its_side(shop: MovedShop) -> None:
    shop.legacy("UPDATE orders SET total_amount = 1 WHERE order_id = %(order)s", sale(PAST, 1))
    audited = await shop.audited()
    assert set(map(str, audited.findings)) == {
        f"past order amount {PAST}: {PRICE_IDR} rupiah before, 1 at legacy now",
        f"order differs {PAST}: shop, amount, payment or refunds differ between the sides",
    }
    shop.marketplace("UPDATE trade_orders SET channel = 'marketplace' WHERE order_id = %(order)s", sale(PAST, 1))
    audited = await shop.audited()
    assert f"past order lost {PAST}: not recorded at marketplace" in set(map(str, audited.findings))
    assert audited.figures["past_orders"] == {"seeded": 1, "legacy": 1, "marketplace": 0}
    assert audited.figures["orders"]["lost"] == 1


async def test_the_marketplaces_own_order_may_not_reach_legacy(shop: MovedShop) -> None:
    shop.record(Keeper.LEGACY, sale(OWN, 1, sold=False))
    assert ("order leaked", str(OWN)) in named((await shop.audited()).findings)


async def test_stock_that_does_not_add_up_is_named_with_its_side(shop: MovedShop) -> None:
    shop.marketplace("UPDATE inventory SET available = available - 1")
    assert set(map(str, (await shop.audited()).findings)) == {
        f"stock {PRODUCT}: 50 at the opening, 3 sold, 46 on hand at marketplace"
    }


async def test_lines_and_payment_are_held_against_what_was_told(shop: MovedShop) -> None:
    shop.marketplace("UPDATE trade_order_items SET qty = 9 WHERE order_id = %(order)s", sale(FIRST, 1))
    shop.marketplace("ALTER TABLE trade_orders DISABLE TRIGGER trade_order_moves_on")
    shop.marketplace("UPDATE trade_orders SET status = 100 WHERE order_id = %(order)s", sale(SECOND, 2))
    assert named((await shop.audited()).findings) == {
        ("order lines", str(FIRST)),
        ("order unpaid", str(SECOND)),
        ("order differs", str(SECOND)),
    }


async def test_an_unbalanced_ledger_is_named(shop: MovedShop) -> None:
    shop.legacy("ALTER TABLE ledger DISABLE TRIGGER ledger_balances")
    shop.legacy("UPDATE ledger SET credit = credit - 1 WHERE order_id = %(order)s AND credit > 0", sale(FIRST, 1))
    assert set(map(str, (await shop.audited()).findings)) == {f"ledger {FIRST}: 1 rupiah out of balance at legacy"}


async def test_a_charge_of_another_amount_or_unsettled_is_unaccounted(shop: MovedShop) -> None:
    shop.provider("UPDATE charges SET gross_amount = gross_amount + 7 WHERE order_id = %(reference)s", sale(FIRST, 1))
    shop.provider("UPDATE charges SET transaction_status = 'pending' WHERE order_id = %(reference)s", sale(SECOND, 2))
    assert named((await shop.audited()).findings) == {
        ("charge amount", str(FIRST)),
        ("money unaccounted", str(FIRST)),
        ("charge unsettled", str(SECOND)),
        ("money unaccounted", str(SECOND)),
    }


async def test_two_equal_refunds_are_two_and_their_money_is_accounted(shop: MovedShop) -> None:
    for number in (SECOND * 10, SECOND * 10 + 1):
        shop.give_back(refund(SECOND, number, 1000))
        shop.tell_refund(refund(SECOND, number, 1000))
    audited = await shop.audited()
    assert [str(finding) for finding in audited.findings] == []
    assert audited.figures["refunds"] == {"told": 2, "recorded": 2, "different": 0}
    shop.tell_refund(refund(SECOND, SECOND * 10, 1000))
    assert set(map(str, (await shop.audited()).findings)) == {
        f"refund lost {SECOND * 10}: told for 2 attempts, which is one refund for all of them"
    }


async def test_a_refund_that_only_the_provider_knows_is_unaccounted(shop: MovedShop) -> None:
    shop.give_back(refund(FIRST, 7, 1000), "provider")
    shop.tell_refund(refund(FIRST, 7, 1000))
    audited = await shop.audited()
    assert set(map(str, audited.findings)) == {
        "refund lost 7: told to a shopper, not recorded at marketplace",
        f"refunds differ {FIRST}: 1 given back by the provider, 0 recorded, or of other amounts",
        f"money unaccounted {FIRST}: {PRICE_IDR - 1000} rupiah received, {PRICE_IDR} booked by its owner",
    }
    assert audited.figures["refunds"] == {"told": 1, "recorded": 0, "different": 1}


async def test_a_refund_that_one_side_alone_recorded_is_named(shop: MovedShop) -> None:
    shop.give_back(refund(FIRST, 7, 1000), "provider", "marketplace")
    assert set(map(str, (await shop.audited()).findings)) == {
        f"order differs {FIRST}: shop, amount, payment or refunds differ between the sides"
    }


async def test_what_trials_buy_is_asked_by_nobody_and_checked_all_the_same(shop: MovedShop) -> None:
    tried = sale(SECOND + 1, 3)
    for keeper in Keeper:
        shop.record(keeper, tried)
    assert {kind for kind, _ in named((await shop.audited()).findings)} == {
        "order unasked",
        "stock",
        "money unaccounted",
    }
    audited = await shop.audited(test_shops=[str(SHOP)])
    assert named(audited.findings) == {("money unaccounted", str(SECOND + 1))}
    shop.provider(CHARGE, tried)
    assert (await shop.audited(test_shops=[str(SHOP)])).findings == ()


async def test_what_others_found_fails_the_audit_too(shop: MovedShop) -> None:
    audited = await shop.audited(stray_writes=["orders: 17"], shape_differences=["after: GET / → 200: x is additional"])
    assert named(audited.findings) == {("stray write", "orders"), ("shape", "after")}
    assert audited.figures["stray_writes"] == 1


async def test_a_planted_redirect_is_named_from_the_shoppers_own_diary(shop: MovedShop, tmp_path: Path) -> None:
    before, path = await opening(shop.stores), tmp_path / "load.jsonl"
    async with serving(LittleShop(promo_target="http://other.example/")) as url:
        shoppers = Shoppers(url, [str(SHOP)], ["1000000101"], rate=400, seed=7, diary_path=path)
        async with asyncio.TaskGroup() as group:
            stop = asyncio.Event()
            group.create_task(shoppers.run(stop))
            await until(lambda: shoppers.live().failed >= 1)
            stop.set()
    audited = await audit(path, shop.stores, before)
    assert set(map(str, audited.findings)) == {
        "host other.example: named by a redirect of GET /p/{promo}",
        "contradiction GET /: GET /: leads to another host, other.example",
    }
    assert audited.figures["hosts_visited"] == 2
    assert audited.figures["requests"]["failed"] == shoppers.live().failed


async def test_the_opening_balance_survives_the_disk(shop: MovedShop, tmp_path: Path) -> None:
    assert shop.before is not None
    shop.before.save(tmp_path / "opening.json")
    assert Opening.load(tmp_path / "opening.json") == shop.before
