"""The gateway's log of sales is kept exactly once, whatever happens to reader, log and database."""

import asyncio
import json
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from alih.model.side import Side
from alih.postgres.line import Line
from alih.postgres.seen import Call, SeenStore
from alih.proof.seen import Reading, keep_new, keep_seen
from tests.support.sold_shop import FLIPPED, HERE, MOVED, SoldShop
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

AFTER = FLIPPED + timedelta(seconds=5)


def line(order: int, tenant: str = HERE, *, at: datetime = AFTER, **given: object) -> bytes:
    """A line as Envoy writes it."""
    said = {
        "at": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "path": f"/api/shops/{tenant}/orders/{order}/payment",
        "status": 200,
        "cluster": "gate",
        "side": "source",
    }
    return json.dumps(said | given).encode() + b"\n"


def write(log: Path, content: bytes, *, append: bool = False) -> None:
    with log.open("ab" if append else "wb") as file:
        file.write(content)


def rotate(log: Path) -> None:
    log.rename(log.with_suffix(".old"))


@pytest.fixture
def log(shop: SoldShop, tmp_path: Path) -> Path:
    shop.controlled("UPDATE alih_control.seen_log SET file = 0, place = 0")
    return tmp_path / "sales.jsonl"


async def seen(shop: SoldShop) -> list[str]:
    return sorted(await shop.seen.orders())


async def test_lines_are_kept_once_across_restarts(shop: SoldShop, log: Path) -> None:
    reading = Reading(shop.contract)
    assert await keep_new(log, reading, shop.seen) == 0  # not there yet
    write(log, line(11) + line(12) + line(13)[:20])
    assert await keep_new(log, reading, shop.seen) == len(line(11) + line(12))
    assert await keep_new(log, reading, shop.seen) == 0
    write(log, line(13)[20:], append=True)
    async with Line(shop.control_dsn, "the control database") as another:
        assert await keep_new(log, Reading(shop.contract), SeenStore(another)) == len(line(13))
    assert [len(await shop.seen.calls(order)) for order in ("11", "12", "13")] == [1, 1, 1]


async def test_another_log_in_its_place_is_read_from_its_beginning(shop: SoldShop, log: Path) -> None:
    reading = Reading(shop.contract)
    write(log, line(11) + line(12))
    await keep_new(log, reading, shop.seen)
    rotate(log)
    write(log, line(13))
    await keep_new(log, reading, shop.seen)
    write(log, b"")  # cut off where it is
    await keep_new(log, reading, shop.seen)
    write(log, line(14))
    await keep_new(log, reading, shop.seen)
    assert await seen(shop) == ["11", "12", "13", "14"]


async def test_what_a_line_says(shop: SoldShop, log: Path) -> None:
    write(log,
        line(11, side=None, cluster="source")
        + line(12, side="-", cluster="gate", status=503)
        + line(13, path="/api/shops/1/orders/13")
        + line(14)[:-10] + line(15)  # two runs of the gateway met in one line
        + b"\xff\xfe\n"
        + line(16, path="/api/shops/1/orders/%31%36/payment?x=1")
        + line(17, MOVED, side="target", cluster="gate")
    )  # fmt: skip
    await keep_new(log, Reading(shop.contract), shop.seen)
    assert await shop.seen.calls("11") == [
        Call(order="11", tenant=HERE, side=Side.SOURCE, epoch=0, at=AFTER, status=200)
    ]
    (unanswered,) = await shop.seen.calls("12")
    assert (unanswered.side, unanswered.epoch, unanswered.status) == (None, None, 503)
    assert await seen(shop) == ["11", "16", "17"]


async def test_the_epoch_is_that_under_which_the_side_owned_the_shop(shop: SoldShop, log: Path) -> None:
    before, after = FLIPPED - timedelta(seconds=5), FLIPPED + timedelta(seconds=5)
    write(
        log,
        line(1, MOVED, at=before, side="source")
        + line(2, MOVED, at=before, side="target")  # came before the flip, was held, and released to the target
        + line(3, MOVED, at=after, side="target")
        + line(4, HERE, at=after, side="target"),  # never owned it
    )
    await keep_new(log, Reading(shop.contract), shop.seen)
    epochs = {order: [(c.side, c.epoch) for c in await shop.seen.calls(order)] for order in ("1", "2", "3", "4")}
    assert epochs == {
        "1": [(Side.SOURCE, 0)],
        "2": [(Side.TARGET, 1)],
        "3": [(Side.TARGET, 1)],
        "4": [(Side.TARGET, None)],
    }


async def test_it_follows_until_it_is_cancelled(shop: SoldShop, log: Path) -> None:
    async with Line(shop.control_dsn, "the control database") as own, asyncio.TaskGroup() as tasks:
        following = tasks.create_task(keep_seen(log, shop.contract, SeenStore(own)))
        write(log, line(11))

        async def first() -> bool:
            return await seen(shop) == ["11"]

        await until(first)
        # The connection is lost; what is written meanwhile is read with the next one.
        shop.controlled(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND query LIKE '%%seen_log%%'"
        )
        write(log, line(12), append=True)

        async def second() -> bool:
            async with Line(shop.control_dsn, "the control database") as fresh:
                return sorted(await SeenStore(fresh).orders()) == ["11", "12"]

        await until(second)
        following.cancel()
