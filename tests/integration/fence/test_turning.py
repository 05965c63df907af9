"""Turning an owner, and putting the fence up beside writers."""

import asyncio
from typing import Any, LiteralString

import psycopg
import pytest

from alih.errors import Corrupt, Retryable
from alih.model.side import Ownership, Side
from alih.postgres import fence
from alih.postgres.fence import Fence
from alih.postgres.line import Line
from tests.support.fenced_shop import WRITES, FencedShop, answer

pytestmark = pytest.mark.anyio

SOURCE, TARGET = Side.SOURCE, Side.TARGET
Connection = psycopg.AsyncConnection[tuple[Any, ...]]

_ADVISORY: LiteralString = """
    SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""


# --- turning ----------------------------------------------------------------------------------------------------


async def test_a_turn_may_be_repeated_but_a_later_one_is_not_undone(shop: FencedShop) -> None:
    source = shop.fences[SOURCE]
    assert await source.close("1", 1) < await source.close("1", 1)
    await source.open("1", 2)
    with pytest.raises(Corrupt, match="tenant 1 was turned by a later attempt than 1"):
        await source.close("1", 1)
    assert await source.owner("1") == Ownership("1", SOURCE, 2)
    assert await answer(shop, SOURCE, WRITES[1]) == "00000"


async def test_a_connection_that_was_lost_while_idle_is_made_anew(shop: FencedShop) -> None:
    async with Line(shop.dsns[SOURCE], "the source database") as line:
        fence = Fence(line, SOURCE)
        async with line.connection() as connection:
            await shop.admins[SOURCE].execute("SELECT pg_terminate_backend(%s, 5000)", (connection.info.backend_pid,))
        await fence.close("1", 1)
        assert await fence.owner("1") == Ownership("1", TARGET, 1)


# --- putting it up ----------------------------------------------------------------------------------------------


async def test_putting_it_up_gives_way_to_the_shops_writers(shop: FencedShop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fence, "_DDL_ATTEMPTS", 2)
    await shop.admins[SOURCE].execute("DROP TRIGGER alih_fence ON orders")
    async with shop.app(SOURCE) as writer, shop.app(SOURCE) as other:
        await writer.execute("UPDATE orders SET status = 'X' WHERE order_id = 10")
        with pytest.raises(Retryable, match="the fence's triggers cannot be made"):
            await fence.put_up(shop.admins[SOURCE], shop.projections.forward, "shops")
        async with asyncio.timeout(1):
            await other.execute("UPDATE orders SET status = 'X' WHERE order_id = 20")
        await writer.commit()
        await other.commit()
    await fence.put_up(shop.admins[SOURCE], shop.projections.forward, "shops")
    assert await fence.installed(shop.admins[SOURCE], shop.projections.forward)


@pytest.mark.parametrize(
    "spoilt",
    [
        "ALTER TABLE lines DISABLE TRIGGER alih_fence",
        "ALTER TABLE lines ENABLE TRIGGER alih_fence",
        "ALTER TABLE lines DISABLE TRIGGER alih_fence_truncate",
        "DROP TRIGGER alih_fence ON vouchers",
    ],
)
async def test_a_fence_that_was_taken_down_is_seen_and_put_up_again(shop: FencedShop, spoilt: LiteralString) -> None:
    assert await fence.installed(shop.admins[TARGET], shop.projections.reverse)
    await shop.admins[TARGET].execute(spoilt)
    assert not await fence.installed(shop.admins[TARGET], shop.projections.reverse)
    await fence.put_up(shop.admins[TARGET], shop.projections.reverse, "shops")
    assert await answer(shop, TARGET, "INSERT INTO lines VALUES (10, 2)") == "25006"
    assert await answer(shop, TARGET, "UPDATE vouchers SET used = true") == "25006"
