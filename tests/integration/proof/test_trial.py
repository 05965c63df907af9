"""A right purchase passes, and each thing that is planted in a shop fails its own check and no other."""

import asyncio
import json
from dataclasses import replace

import pytest

from alih.evidence.entry import leaf
from alih.model.commerce import Trial
from alih.model.phase import Soaking, Tracked
from alih.model.side import Side
from alih.proof.trial import Tried, tab_pause
from tests.support.tried_shop import NOW, PRICE, STEPS, TRIAL, Shop, open_shop

pytestmark = pytest.mark.anyio

CHECKS = ["steps", "price", "invoice", "hosts", "payee", "ledger", "provider", "refund"]


async def tried(shop: Shop, trial: Trial = TRIAL) -> Tried:
    async with open_shop(shop, trial) as trials:
        return await trials.try_purchase("first")


def failed(purchase: Tried) -> dict[str, str | None]:
    return {check.name: check.why for check in purchase.checks if not check.passed}


async def test_a_purchase_that_is_right_passes() -> None:
    shop = Shop(owner=Side.TARGET, epoch=3, phase=Soaking(Side.TARGET, 3))
    purchase = await tried(shop)
    assert failed(purchase) == {}
    assert [check.name for check in purchase.checks] == CHECKS
    assert purchase.passed
    assert [(click.name, click.status) for click in purchase.clicks] == [(each.name, each.status) for each in STEPS]
    assert purchase.amounts == dict.fromkeys(("shown", "ordered", "charged", "settled", "refunded"), PRICE)
    assert (purchase.moment, purchase.side, purchase.epoch, purchase.payee) == ("after", Side.TARGET, 3, "market")
    assert len(purchase.hosts) == 1
    assert purchase.tab_ms is not None
    assert 0 <= purchase.tab_ms < 1000
    assert shop.bodies == [{"product_id": "P 9", "quantity": 1}, {"amount": PRICE}]  # a number stays a number
    assert str(shop.keys[0]).startswith("trial-")
    assert str(shop.keys[0]).endswith("-order")


async def test_each_purchase_is_an_attempt_of_its_own() -> None:
    shop = Shop()
    await tried(shop)
    await tried(shop)
    assert len(set(shop.keys)) == 2


async def test_the_entry_names_the_sale_by_a_commitment_only() -> None:
    purchase = await tried(Shop())
    (entry,) = purchase.entries()
    made = leaf(7, NOW, entry)
    said = json.loads(made.content)
    assert b"ORDER-0" not in made.content
    assert set(said["commitments"]) == {"sale"}
    assert made.openings["sale"].value == "ORDER-0"
    assert said["kind"] == "trial"
    assert said["amounts"]["settled"] == PRICE
    assert [set(each) for each in said["steps"]] == [{"name", "ms", "status"}] * len(STEPS)
    assert purchase.document()["order"] == "ORDER-0"


PLANTED = [
    (
        Shop(asked_more=1),
        {
            "price": f"shown {PRICE}, ordered {PRICE}, charged {PRICE + 1}, settled {PRICE + 1}",
        },
    ),
    (
        Shop(payee="market"),
        {"payee": "the charge is for another account than that of the owner at the time"},
    ),
    (
        Shop(payee="somebody"),
        {
            "payee": "the charge is for another account than that of the owner at the time",
            "provider": "the payee's account has no such charge at the provider",
            "price": f"shown {PRICE}, ordered {PRICE}, charged {PRICE}, settled nothing",
            "refund": f"the provider has given back 0 of {PRICE} rupiah",
        },
    ),
    (
        Shop(stray_idr=5),
        {"ledger": "stands in the ledger of the target, which does not own the shop"},
    ),
    (
        Shop(unbooked_refund=True),
        {
            "ledger": f"the ledger is +{PRICE} rupiah off what was charged and given back",
            "refund": "the owner's books do not say that all of it was given back",
        },
    ),
    (
        Shop(invoice_url="http://old.example/invoices/{order}"),
        {
            "steps": "invoice: leads to another host",
            "invoice": "leads to another host",
            "hosts": "names old.example besides the shop's own",
        },
    ),
    (
        Shop(redirects_to="https://old.example"),
        {"hosts": "names old.example besides the shop's own"},
    ),
    (
        Shop(invoice_text="<img src='//old.example/logo.svg'>"),
        {"hosts": "names old.example besides the shop's own"},
    ),
    (
        Shop(tab={"banner": {"image": "https://cdn.example/b.png"}}),
        {"hosts": "names cdn.example besides the shop's own"},
    ),
    (
        Shop(invoice_url="http://[broken"),
        {
            "steps": "invoice: holds what HTTP cannot carry",
            "invoice": "holds what HTTP cannot carry",
            "hosts": "names [broken besides the shop's own",
        },
    ),
    (
        Shop(broken="/ORDER-0/refunds"),
        {
            "steps": "refund: answered 500, not 200; refunded: body.payment_status was not refund within 1 s",
            "refund": f"the shopper was told of 0 of {PRICE} rupiah",
        },
    ),
    (
        Shop(broken="/invoices/ORDER-0"),
        {"steps": "invoice: answered 500, not 200", "invoice": "answered 500, not 200"},
    ),
    (Shop(slow="/api/shops/298"), {"steps": "shop_tab: no answer in time"}),
    (
        Shop(away=True),
        {
            "price": f"shown {PRICE}, ordered {PRICE}, charged {PRICE}, settled nothing",
            **dict.fromkeys(("payee", "ledger", "provider", "refund"), "the source database is away"),
        },
    ),
]


@pytest.mark.parametrize(("shop", "expected"), PLANTED, ids=range(len(PLANTED)))
async def test_what_is_planted_fails_its_check_and_no_other(shop: Shop, expected: dict[str, str]) -> None:
    purchase = await tried(replace(shop, keys=[], bodies=[], orders={}, collected_by={}))
    assert failed(purchase) == expected
    assert not purchase.passed
    trial, *findings = purchase.entries()
    assert trial.facts["passed"] is False
    assert [entry.facts["what"] for entry in findings] == [f"{name}: {why}" for name, why in failed(purchase).items()]


async def test_what_cannot_be_clicked_is_left_out_and_what_was_paid_is_given_back() -> None:
    shop = Shop(broken="/products/P 9")
    purchase = await tried(shop)
    assert failed(purchase) == {
        "steps": "product: answered 500, not 200",
        "price": f"shown nothing, ordered {PRICE}, charged {PRICE}, settled {PRICE}",
    }
    assert shop.orders["ORDER-0"]["refunded"] == PRICE


async def test_a_purchase_without_an_order_says_so() -> None:
    purchase = await tried(Shop(broken="/orders"))
    why = failed(purchase)
    assert str(why["steps"]).startswith("order: answered 500, not 201; pay: order is not known; ")
    assert why["ledger"] == "there is no order"
    assert [click.name for click in purchase.clicks if click.made] == [
        "promotion",
        "shop_tab",
        "product",
        "cart",
        "order",
    ]
    assert purchase.order is None
    (trial, *_) = purchase.entries()
    assert trial.secrets == {}


async def test_a_shop_that_is_not_there_fails_every_step() -> None:
    async with open_shop(Shop()) as trials:
        pass
    purchase = await trials.try_purchase("first")
    assert str(failed(purchase)["steps"]).startswith("promotion: no answer: ClientConnectorError")
    assert purchase.tab_ms is None


MOMENTS = [
    (Shop(), "before", Side.SOURCE, "social"),
    (Shop(phase=Tracked()), "during", Side.SOURCE, "social"),
    (Shop(flips_at="/cart/items"), "during", Side.TARGET, "market"),
    (Shop(flips_at="/refunds"), "during", Side.SOURCE, "social"),
    (Shop(flips_at="/payment"), "during", Side.TARGET, "market"),
    (Shop(flips_at="/payment", payee="social"), "during", Side.TARGET, "social"),
    (Shop(owner=Side.TARGET, epoch=2, phase=Soaking(Side.TARGET, 2)), "after", Side.TARGET, "market"),
]


@pytest.mark.parametrize(("shop", "moment", "side", "payee"), MOMENTS, ids=range(len(MOMENTS)))
async def test_the_moment_and_the_payee_are_the_owners(shop: Shop, moment: str, side: Side, payee: str) -> None:
    purchase = await tried(replace(shop, keys=[], bodies=[], orders={}, collected_by={}))
    assert failed(purchase) == {}
    assert (purchase.moment, purchase.side, purchase.payee) == (moment, side, payee)


async def test_a_round_is_one_purchase_in_each_cohort() -> None:
    shop, told = Shop(broken="/api/shops/300"), list[Tried]()

    async def tell(purchase: Tried) -> None:
        told.append(purchase)

    async with open_shop(shop) as trials:
        assert await trials.rounds(None, tell) == 1
    assert {(each.cohort, each.passed) for each in told} == {("first", True), ("rest", False)}


async def test_rounds_go_on_until_they_are_cancelled() -> None:
    told: dict[str, int] = {"first": 0, "rest": 0}
    enough = asyncio.Event()

    async def tell(purchase: Tried) -> None:
        told[purchase.cohort] += 1
        if min(told.values()) >= 2:
            enough.set()

    async with open_shop(Shop()) as trials, asyncio.timeout(20), asyncio.TaskGroup() as tasks:
        going = tasks.create_task(trials.rounds(0.05, tell))
        await enough.wait()
        going.cancel()
    assert min(told.values()) >= 2


def test_the_pause_of_the_shop_tab_is_a_median_beside_its_baseline() -> None:
    entries = [
        {"kind": "trial", "moment": moment, "tab_ms": ms}
        for moment, ms in (("before", 9), ("before", 5), ("before", 7), ("during", 800), ("during", 4), ("after", None))
    ]
    found = tab_pause([{"kind": "state"}, *entries])
    assert found == {"before_ms": 7, "during_ms": 4, "after_ms": None}
