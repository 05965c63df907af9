"""Shoppers on an honest shop fail nothing; each lie of a shop is found, counted and written down."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from demo.shoppers import Shoppers, Summary, compare_shapes, journey
from tests.support.little_shop import PAID, LittleShop, serving
from tests.support.waiting import until

pytestmark = pytest.mark.anyio
BUYERS = ["1000000101", "1000000102"]


class Load:
    """A running load and how to end it."""

    def __init__(self, shoppers: Shoppers, path: Path) -> None:
        self.shoppers = shoppers
        self.path = path
        self.stop = asyncio.Event()
        self.summary: Summary | None = None

    async def run(self) -> None:
        self.summary = await self.shoppers.run(self.stop)

    def lines(self, kind: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.path.read_text(encoding="utf-8").splitlines()]
        return [line for line in lines if line["kind"] == kind]


@asynccontextmanager
async def load(shop: LittleShop, path: Path) -> AsyncIterator[Load]:
    async with serving(shop) as url:
        running = Load(Shoppers(url, ["1000000001"], BUYERS, rate=400, seed=7, diary_path=path), path)
        async with asyncio.TaskGroup() as group:
            group.create_task(running.run())
            yield running
            running.stop.set()


async def shop_until(
    shop: LittleShop, path: Path, enough: Callable[[Shoppers], bool] = lambda shoppers: shoppers.live().paid >= 6
) -> tuple[Load, Summary]:
    async with load(shop, path) as running:
        await until(lambda: enough(running.shoppers))
    assert running.summary is not None
    return running, running.summary


async def failing(shop: LittleShop, path: Path) -> tuple[Load, Summary]:
    return await shop_until(shop, path, lambda shoppers: shoppers.live().failed >= 2)


async def test_an_honest_shop_fails_nothing_and_every_order_told_ends_paid(tmp_path: Path) -> None:
    shop = LittleShop()
    running, summary = await shop_until(shop, tmp_path / "diary.jsonl")
    assert (summary.failed, summary.refused, summary.failures) == (0, 0, [])
    assert summary.requests == summary.succeeded == len(running.lines("request"))
    assert {line["order_id"] for line in running.lines("order")} == set(shop.orders)
    assert summary.orders == summary.charges == summary.paid == len(shop.orders)
    assert list(summary.hosts.values()) == ["a link to /api/me/profile"]
    for line in running.lines("order"):
        assert f"{line['amount_idr']}.00" == shop.orders[line["order_id"]]["total_amount"]
        assert shop.keys[line["key"]] == line["order_id"]


async def test_the_diary_names_every_call_by_its_template(tmp_path: Path) -> None:
    running, summary = await shop_until(LittleShop(), tmp_path / "diary.jsonl")
    templates = {line["call"] for line in running.lines("request")}
    assert len(templates) == 16
    assert templates == summary.latency_ms["before"].keys()


async def test_some_checkouts_and_payments_are_repeated_under_their_key(tmp_path: Path) -> None:
    running, summary = await shop_until(
        LittleShop(), tmp_path / "diary.jsonl", lambda shoppers: shoppers.live().paid >= 20
    )
    asked = [line["call"] for line in running.lines("request")]
    assert asked.count("POST /api/shops/{shop_id}/orders") > summary.orders
    assert asked.count("POST /api/shops/{shop_id}/orders/{order_id}/payment") > summary.charges


@pytest.mark.parametrize(
    ("shop", "why"),
    [
        (LittleShop(fresh_order_for_each_key=True), "another order for the same key"),
        (LittleShop(fresh_charge_for_each_key=True), "another charge for the same key"),
        (LittleShop(fresh_refund_for_each_key=True), "another refund for the same key"),
        (LittleShop(forgets_refunds=True), "money was given back, and the order does not show it"),
        (LittleShop(forgets_orders=True), "an order that was told is missing"),
        (LittleShop(miscounts=True), "the order's amount is not the cart's"),
    ],
)
async def test_an_answer_that_contradicts_an_earlier_one_is_a_failed_request(
    shop: LittleShop, why: str, tmp_path: Path
) -> None:
    running, summary = await failing(shop, tmp_path / "diary.jsonl")
    assert {line["why"] for line in running.lines("contradiction")} == {why}
    assert summary.failed == len(running.lines("contradiction"))
    assert summary.requests - summary.succeeded == summary.failed


async def test_equal_parts_of_some_payments_are_asked_back_and_each_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journey, "PARTS", ((4, 4),))
    shop = LittleShop()
    running, summary = await shop_until(shop, tmp_path / "diary.jsonl", lambda shoppers: shoppers.live().refunds >= 8)
    told = running.lines("refund")
    assert summary.failed == 0
    assert summary.refunds == len(told) == len({line["refund_id"] for line in told}) == len(shop.refunds)
    assert {line["key"] for line in told} == set(shop.refunds)
    equal = Counter((line["order_id"], line["amount_idr"]) for line in told)
    assert set(equal.values()) == {2}


async def test_a_payment_that_takes_its_time_is_waited_for_also_after_the_shop_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journey, "LOOKS", [0.01] * 3)
    shop = LittleShop(slow_buyers=True)
    async with load(shop, tmp_path / "diary.jsonl") as running:
        await until(lambda: running.shoppers.live().charges >= 2)
        running.stop.set()
        await until(lambda: all(shop.looks[order] > len(journey.LOOKS) for order in shop.orders))
        assert running.shoppers.live().paid == 0
        for order in shop.orders.values():
            order.update(PAID)
    assert running.summary is not None
    assert running.summary.paid == running.summary.orders == len(shop.orders)


async def test_a_redirect_to_another_host_is_named_and_not_followed(tmp_path: Path) -> None:
    running, summary = await failing(LittleShop(promo_target="http://other.example/"), tmp_path / "diary.jsonl")
    assert summary.hosts["other.example"] == "a redirect of GET /p/{promo}"
    assert {line["host"] for line in running.lines("request")} == summary.hosts.keys() - {"other.example"}
    assert {line["why"] for line in running.lines("contradiction")} == {"leads to another host, other.example"}


async def test_an_invoice_on_another_host_is_named(tmp_path: Path) -> None:
    _, summary = await failing(LittleShop(invoice_link="https://old.example/invoice"), tmp_path / "diary.jsonl")
    assert summary.hosts["old.example"] == "the answer of POST /api/shops/{shop_id}/orders"


async def test_sold_out_is_refused_and_not_failed(tmp_path: Path) -> None:
    _, summary = await shop_until(
        LittleShop(sold_out=True), tmp_path / "diary.jsonl", lambda shoppers: shoppers.live().refused >= 2
    )
    assert (summary.failed, summary.orders) == (0, 0)
    assert summary.refused >= 2


async def test_a_checkout_without_an_answer_counts_as_failed_and_is_asked_again_under_its_key(tmp_path: Path) -> None:
    shop = LittleShop(broken_checkouts=1)
    running, summary = await shop_until(shop, tmp_path / "diary.jsonl")
    assert (summary.failed, summary.failures) == (1, ["before: POST /api/shops/{shop_id}/orders: 502 upstream"])
    assert {line["key"] for line in running.lines("attempt") if line["what"] == "order"} == shop.keys.keys()


async def test_no_shop_at_all_is_a_failed_request(tmp_path: Path) -> None:
    path = tmp_path / "diary.jsonl"
    async with serving(LittleShop()) as url:
        shoppers = Shoppers(url, ["1000000001"], BUYERS, rate=400, seed=7, diary_path=path)
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(shoppers.run(stop))
        await until(lambda: shoppers.live().failed >= 2)
        stop.set()
    assert shoppers.diary.summary().succeeded == 0


async def test_phases_are_recorded_apart_and_a_field_that_came_up_meanwhile_is_named(tmp_path: Path) -> None:
    shop = LittleShop()
    async with load(shop, tmp_path / "diary.jsonl") as running:
        await until(lambda: running.shoppers.live().paid >= 4)
        running.shoppers.label("during")
        paid = running.shoppers.live().paid
        await until(lambda: running.shoppers.live().paid >= paid + 6)
        shop.extra_field = True
        running.shoppers.label("after")
        await until(lambda: running.shoppers.live().paid >= paid + 12)
    assert compare_shapes(running.shoppers.recordings) == [
        "after: GET /api/shops/{shop_id} → 200: answer.body.owner_nik is additional"
    ]


async def test_cancelled_it_stops_at_once_and_the_diary_keeps_what_was_told(tmp_path: Path) -> None:
    path = tmp_path / "diary.jsonl"
    async with serving(LittleShop()) as url:
        shoppers = Shoppers(url, ["1000000001"], BUYERS, rate=400, seed=7, diary_path=path)
        task = asyncio.get_running_loop().create_task(shoppers.run(asyncio.Event()))
        await until(lambda: shoppers.live().orders >= 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    told = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert sum(line["kind"] == "order" for line in told) == shoppers.live().orders
