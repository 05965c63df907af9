"""Sales are traced from the gateway to the invoice; what was planted is found, and nothing else."""

from collections.abc import Callable
from typing import LiteralString

import pytest

from alih.evidence.entry import Entry
from alih.model.side import Ownership, Side
from alih.postgres.seen import Call, Place
from tests.support.sold_shop import FLIPPED, HERE, MOVED, SOLD, TEST, SoldShop

pytestmark = pytest.mark.anyio


async def why(shop: SoldShop, order: int) -> dict[str, str | None]:
    """The links that an order lacks, with their reasons."""
    trace = await shop.tracer.trace(str(order))
    return {link.name: link.why for link in trace.links if not link.holds}


async def test_a_sale_from_end_to_end(shop: SoldShop) -> None:
    await shop.sold(21, MOVED)
    await shop.gave_back(51, 21, MOVED, 20_000)
    trace = await shop.tracer.trace("21")
    assert trace.proven
    assert trace.owner == Ownership(MOVED, Side.TARGET, 1)
    document = trace.document()
    assert (document["order"], document["tenant"], document["side"], document["missing"]) == ("21", "2", "target", [])
    found = {link.name: link.found for link in trace.links}
    assert found["gateway"] == {
        "side": "target", "epoch": 1, "at": SOLD.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "status": 200, "calls": 1,
    }  # fmt: skip
    assert found["ledger"] == {"received_idr": 125_000, "entries": 4}
    assert found["provider"] == {"gross_idr": 145_000, "payee": "marketplace", "settled": True, "refunded_idr": 20_000}


async def test_a_sale_from_before_the_flip_is_the_new_owners_now(shop: SoldShop) -> None:
    await shop.sold(21, MOVED, at=FLIPPED.replace(year=FLIPPED.year - 1))
    trace = await shop.tracer.trace("21")
    assert trace.proven
    assert trace.links[0].found["side"] == "source"
    assert trace.links[1].found["payee"] == "social"


async def test_an_order_that_nobody_knows(shop: SoldShop) -> None:
    trace = await shop.tracer.trace("4711")
    assert trace.owner is None
    assert trace.missing == ("gateway", "owner", "ledger", "provider", "invoice")


async def test_an_order_that_waits_for_its_payment_has_no_entry_and_needs_none(shop: SoldShop) -> None:
    await shop.sold(11, HERE)
    shop.source("UPDATE charges SET status = 'pending', settle_time = NULL", "DELETE FROM ledger")
    shop.target("DELETE FROM jurnal WHERE no <> 9000")
    shop.collector.charges["ref-11"].state = "pending"
    assert await why(shop, 11) == {}


def _spoil_source(*statements: LiteralString) -> Callable[[SoldShop], None]:
    return lambda shop: shop.source(*statements)


def _provider_gross(shop: SoldShop) -> None:
    shop.collector.charges["ref-11"].gross_idr += 1


def _provider_payee(shop: SoldShop) -> None:
    shop.collector.charges["ref-11"].payee = "marketplace"


def _provider_pending(shop: SoldShop) -> None:
    shop.collector.charges["ref-11"].state = "pending"


def _provider_refund(shop: SoldShop) -> None:
    shop.collector.charges["ref-11"].refunds.append(("key-52", 20_000))


def _never_seen(shop: SoldShop) -> None:
    shop.controlled("DELETE FROM alih_control.seen")


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        pytest.param(
            _spoil_source("UPDATE charges SET amount = amount + 1"),
            {
                "owner": "the charge is +1 rupiah off the order's amount",
                "ledger": "the ledger is -1 rupiah off what was charged and given back",
                "provider": "the provider's amount is -1 rupiah off the charge's",
            },
            id="a price one rupiah off",
        ),
        pytest.param(
            _spoil_source("UPDATE orders SET total_amount = total_amount - 1"),
            {"owner": "the charge is +1 rupiah off the order's amount"},
            id="an order one rupiah off",
        ),
        pytest.param(
            _spoil_source("UPDATE ledger SET entry_id = entry_id + 100000"),
            {"ledger": "stands in the ledger of the target, which does not own the shop"},
            id="entries of the same amounts under other numbers",
        ),
        pytest.param(
            _spoil_source("DELETE FROM ledger"),
            {"ledger": "stands in the ledger of the target, which does not own the shop"},
            id="a ledger row on the wrong side",
        ),
        pytest.param(
            _spoil_source("INSERT INTO ledger VALUES (999, 11, 1, 'CLEARING', 145000, 0, 0)"),
            {"ledger": "the ledger is +145000 rupiah off what was charged and given back"},
            id="a doubled entry",
        ),
        pytest.param(
            _spoil_source(
                "DELETE FROM refunds WHERE refund_id = 51", "DELETE FROM ledger WHERE entry_id IN (510, 511)"
            ),
            {
                "ledger": "stands in the ledger of the target, which does not own the shop",
                "provider": "the refunds at the provider are others than the owner's",
            },
            id="a missing refund",
        ),
        pytest.param(
            _spoil_source("UPDATE charges SET payee = 'marketplace'"),
            {
                "owner": "the charge is for another account than that of the side that began it",
                "provider": "the payee's account has no such charge at the provider",
            },
            id="a charge for the other account",
        ),
        pytest.param(
            _spoil_source(
                "INSERT INTO charges SELECT 999, 11, payee, amount, 'ref-11b', status, 0, 0"
                " FROM charges WHERE charge_id = 11"
            ),
            {
                "owner": "the order was charged more than once",
                "ledger": "the ledger is -145000 rupiah off what was charged and given back",
            },
            id="a doubled charge",
        ),
        pytest.param(
            _provider_gross, {"provider": "the provider's amount is +1 rupiah off the charge's"}, id="another gross"
        ),
        pytest.param(
            _provider_payee, {"provider": "the payee's account has no such charge at the provider"}, id="wrong payee"
        ),
        pytest.param(
            _provider_pending, {"provider": "the provider says not settled, and the owner the opposite"}, id="unsettled"
        ),
        pytest.param(
            _provider_refund,
            {"provider": "the refunds at the provider are others than the owner's"},
            id="a second, equal refund that the owner lacks",
        ),
        pytest.param(_never_seen, {"gateway": "was never seen to be answered at the gateway"}, id="never seen"),
    ],
)
async def test_planted_and_found(
    shop: SoldShop, spoil: Callable[[SoldShop], None], expected: dict[str, str | None]
) -> None:
    await shop.sold(11, HERE)
    await shop.gave_back(51, 11, HERE, 20_000)
    await shop.sold(12, HERE)
    spoil_free = await why(shop, 11)
    spoil(shop)
    assert spoil_free == {}
    assert await why(shop, 11) == expected


async def test_two_equal_partial_refunds_are_two(shop: SoldShop) -> None:
    await shop.sold(11, HERE)
    await shop.gave_back(51, 11, HERE, 20_000)
    await shop.gave_back(52, 11, HERE, 20_000)
    trace = await shop.tracer.trace("11")
    assert trace.proven
    assert trace.links[2].found["received_idr"] == 105_000
    assert trace.links[3].found["refunded_idr"] == 40_000


OLD = "shop.social.example"


@pytest.mark.parametrize(
    "document",
    [
        f'<a href="https://{OLD}/orders/11">Pesanan</a>',
        f"<img src='//{OLD}/logo.png'>",
        f'<meta http-equiv="refresh" content="0; url=http://{OLD}/">',
        f'<a href="https:&#47;&#47;{OLD}/">x</a>',
        f'<img srcset="/a.png 1x, //{OLD}/b.png 2x">',
        f"<style>p {{ background: url(https://{OLD}/a.png) }}</style>",
        f'<script>location = "https:\\/\\/{OLD}\\/"</script>',
        f"<p>Lihat https://{OLD}/faktur</p>",
        f'<a href="\thttps:\\\\{OLD}\\x">x</a>',
        f'<base href="http://{OLD}/"><a href="/orders">x</a>',
    ],
)
async def test_an_invoice_that_links_to_the_old_host(shop: SoldShop, document: str) -> None:
    await shop.sold(21, MOVED)
    shop.shown.documents["21"] = document
    assert await why(shop, 21) == {"invoice": f"links to {OLD}"}


async def test_an_invoice_that_leads_to_the_old_host(shop: SoldShop) -> None:
    await shop.sold(21, MOVED)
    shop.shown.redirects["21"] = f"https://{OLD}/faktur/21"
    assert await why(shop, 21) == {"invoice": f"redirects to {OLD}"}
    shop.shown.redirects["21"] = "/nowhere"
    assert await why(shop, 21) == {"invoice": "the answer is 404"}
    shop.shown.redirects["21"] = "/api/shops/2/orders/21/invoice"
    assert await why(shop, 21) == {"invoice": "redirects without end"}


async def test_names_of_namespaces_and_own_links_are_no_links(shop: SoldShop) -> None:
    await shop.sold(21, MOVED)
    shop.shown.documents["21"] = (
        '<!doctype html><svg xmlns="http://www.w3.org/2000/svg"></svg><a href="/a//b?c=1">x</a><p>a // b, 1//2</p>'
    )
    assert await why(shop, 21) == {}


async def test_a_call_that_no_side_has_answered_is_no_sale_seen(shop: SoldShop) -> None:
    await shop.sold(11, HERE)
    shop.controlled("UPDATE alih_control.seen SET side = NULL, epoch = NULL, status = 503")
    assert await why(shop, 11) == {"gateway": "was never seen to be answered at the gateway"}
    call = Call(order="11", tenant=HERE, side=Side.TARGET, epoch=None, at=SOLD, status=200)
    await shop.seen.keep([call], Place(0, 0))
    assert (await why(shop, 11))["gateway"] == "was answered by a side that did not own the shop"


# --- audit --------------------------------------------------------------------------------------------------


async def test_an_audit_of_everything(shop: SoldShop) -> None:
    for order in range(11, 16):
        await shop.sold(order, HERE)
        await shop.sold(order + 10, MOVED)
    await shop.sold(31, TEST)
    audit = await shop.tracer.audit(200, seed=7)
    assert audit.clean
    assert {k: v for k, v in audit.document().items() if k != "missing"} == {
        "sampled": 10, "proven": 10, "seed": 7, "population": 10, "misplaced": [],
    }  # fmt: skip
    (entry,) = audit.entries()
    assert entry.kind == "audit"
    assert (entry.facts["sampled"], entry.facts["proven"], entry.facts["population"]) == (10, 10, 10)
    assert sorted(entry.secrets.values()) == [str(order) for order in (*range(11, 16), *range(21, 26))]
    assert {"sale": "@s1", "proven": True, "missing": []}.items() <= _sales(entry)[0].items()
    assert not any(order in str(entry.facts) for order in entry.secrets.values())


def _sales(entry: Entry) -> list[dict[str, object]]:
    sales = entry.facts["sales"]
    assert isinstance(sales, list)
    return [dict(sale) for sale in sales]


async def test_three_sales_in_the_wrong_ledger_are_named_though_one_is_drawn(shop: SoldShop) -> None:
    for order in range(11, 16):
        await shop.sold(order, HERE)
        await shop.sold(order + 10, MOVED)
    shop.source("DELETE FROM ledger WHERE order_id IN (12, 14)")
    shop.target("DELETE FROM jurnal WHERE pesanan_id = 23")
    for sample, proven in ((1, (0, 1)), (200, (7,))):
        audit = await shop.tracer.audit(sample, seed=7)
        assert not audit.clean
        assert audit.proven in proven
        document = audit.document()
        assert document["misplaced"] == ["12", "14", "23"]
        missing = document["missing"]
        assert isinstance(missing, list)
        assert sorted(str(dict(each)["sale"]) for each in missing) == ["12", "14", "23"]
        assert [entry.kind for entry in audit.entries()] == ["audit", "finding", "finding", "finding"]
        findings = [(e.facts["tenant"], e.facts["amount_idr"], e.secrets["sale"]) for e in audit.entries()[1:]]
        assert findings == [(HERE, 145_000, "12"), (HERE, 145_000, "14"), (MOVED, 145_000, "23")]


async def test_a_sale_that_was_seen_and_is_recorded_nowhere_is_drawn_and_named(shop: SoldShop) -> None:
    await shop.sold(11, HERE)
    shop.source("DELETE FROM orders", "DELETE FROM ledger")
    shop.target("DELETE FROM pesanan", "DELETE FROM jurnal")
    audit = await shop.tracer.audit(5, seed=1)
    assert (len(audit.traces), audit.proven) == (1, 0)
    assert audit.traces[0].missing == ("owner", "ledger", "provider")
