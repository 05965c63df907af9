"""The fence and transactions of many shops: locks, jobs, savepoints."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, LiteralString

import psycopg
import pytest

from alih.errors import Retryable
from alih.model.side import Side
from tests.support.fenced_shop import FencedShop, answer, state_of

pytestmark = pytest.mark.anyio

SOURCE, TARGET = Side.SOURCE, Side.TARGET
Connection = psycopg.AsyncConnection[tuple[Any, ...]]

_ADVISORY: LiteralString = """
    SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""


# --- jobs and transactions of many shops ------------------------------------------------------------------------


@asynccontextmanager
async def many_shops(shop: FencedShop, count: int) -> AsyncIterator[Connection]:
    async with shop.app(SOURCE) as job:
        await job.execute("INSERT INTO shops SELECT n, 'toko' FROM generate_series(4, %s) n", (count,))
        await job.execute("INSERT INTO orders SELECT n * 10, n, 'PAID' FROM generate_series(4, %s) n", (count,))
        await job.commit()
        yield job


@pytest.mark.parametrize(("tenants", "locks"), [(1, 1), (32, 32), (33, 33), (60, 33)])
async def test_beyond_32_tenants_one_lock_stands_for_all(shop: FencedShop, tenants: int, locks: int) -> None:
    async with many_shops(shop, 60) as job:
        await job.execute("UPDATE orders SET status = 'SEEN' WHERE shop_id <= %s", (tenants,))
        assert await shop.rows(SOURCE, _ADVISORY) == [(locks,)]


async def test_a_job_over_all_shops_holds_the_fence_off_and_loses_nothing(shop: FencedShop) -> None:
    async with many_shops(shop, 60) as job:
        await job.execute("UPDATE orders SET status = 'SEEN'")
        for tenant in ("1", "60"):  # one whose own lock it has, one that only the lock for all stands for
            with pytest.raises(Retryable, match="does not end"):
                await shop.fences[SOURCE].close(tenant, 1)
        await job.commit()
        await shop.fences[SOURCE].close("60", 3)
    assert await shop.rows(SOURCE, "SELECT count(*) FROM orders WHERE status = 'SEEN'") == [(60,)]


async def test_a_job_that_comes_upon_a_moved_shop_is_refused_whole(shop: FencedShop) -> None:
    async with many_shops(shop, 60) as job:
        await shop.move("60")
        assert await state_of(job, "UPDATE orders SET status = 'SEEN'") == "25006"
    assert await shop.rows(SOURCE, "SELECT count(*) FROM orders WHERE status = 'SEEN'") == [(0,)]


async def test_a_job_that_joins_the_owner_passes_over_moved_shops(shop: FencedShop) -> None:
    await shop.admins[SOURCE].execute("GRANT USAGE ON SCHEMA alih TO shop_app; GRANT SELECT ON alih.owner TO shop_app")
    await shop.move("2")
    joined: LiteralString = """
        UPDATE orders SET status = 'SEEN' FROM alih.owner o WHERE o.tenant = shop_id::text AND o.side = 'source'"""
    assert await answer(shop, SOURCE, joined) == "00000"
    assert await shop.rows(SOURCE, "SELECT shop_id FROM orders WHERE status = 'SEEN' ORDER BY 1") == [(1,), (3,)]


async def test_a_transaction_of_two_shops_is_refused_whole_when_one_has_moved(shop: FencedShop) -> None:
    await shop.move("2")
    async with shop.app(SOURCE) as writer:
        await writer.execute("UPDATE orders SET status = 'SEEN' WHERE shop_id = 1")
        assert await state_of(writer, "UPDATE orders SET status = 'SEEN' WHERE shop_id = 2") == "25006"
        await writer.rollback()
    assert await shop.rows(SOURCE, "SELECT count(*) FROM orders WHERE status = 'SEEN'") == [(0,)]


async def test_a_transaction_of_two_shops_holds_off_the_fence_of_each(shop: FencedShop) -> None:
    async with shop.app(SOURCE) as writer:
        await writer.execute("UPDATE orders SET status = 'SEEN' WHERE shop_id IN (1, 2)")
        for tenant in ("1", "2"):
            with pytest.raises(Retryable):
                await shop.fences[SOURCE].close(tenant, 1)
        await shop.fences[SOURCE].close("3", 1)
        await writer.commit()


async def test_writers_of_different_shops_and_of_one_do_not_wait_for_each_other(shop: FencedShop) -> None:
    async with shop.app(SOURCE) as one, shop.app(SOURCE) as other, asyncio.timeout(5):
        await one.execute("INSERT INTO orders VALUES (11, 1, 'UNPAID')")
        await other.execute("INSERT INTO orders VALUES (12, 1, 'UNPAID'), (22, 2, 'UNPAID')")
        await one.commit()
        await other.commit()


# --- savepoints -------------------------------------------------------------------------------------------------


async def test_a_savepoint_that_is_rolled_back_gives_its_locks_back_and_they_are_taken_again(shop: FencedShop) -> None:
    async with shop.app(SOURCE) as writer:
        await writer.execute("UPDATE orders SET status = 'SEEN' WHERE shop_id = 2")
        await writer.execute("SAVEPOINT s")
        await writer.execute("UPDATE orders SET status = 'SEEN' WHERE shop_id = 1")
        await writer.execute("ROLLBACK TO s")
        assert await shop.rows(SOURCE, _ADVISORY) == [(1,)]
        await writer.execute("UPDATE orders SET status = 'AGAIN' WHERE shop_id = 1")
        assert await shop.rows(SOURCE, _ADVISORY) == [(2,)]
        with pytest.raises(Retryable):
            await shop.fences[SOURCE].close("1", 1)
        await writer.commit()


async def test_a_fence_between_a_savepoint_and_the_next_write_refuses_that_write(shop: FencedShop) -> None:
    async with shop.app(SOURCE) as writer:
        await writer.execute("SAVEPOINT s")
        await writer.execute("UPDATE orders SET status = 'SEEN' WHERE shop_id = 1")
        await writer.execute("ROLLBACK TO s")
        await shop.move("1")
        assert await state_of(writer, "UPDATE orders SET status = 'SEEN' WHERE shop_id = 1") == "25006"


async def test_a_savepoint_around_the_lock_for_all_is_undone_with_it(shop: FencedShop) -> None:
    async with many_shops(shop, 40) as job:
        await job.execute("UPDATE orders SET status = 'SEEN' WHERE shop_id <= 32")
        await job.execute("SAVEPOINT s")
        await job.execute("UPDATE orders SET status = 'SEEN' WHERE shop_id = 33")
        await job.execute("ROLLBACK TO s")
        assert await shop.rows(SOURCE, _ADVISORY) == [(32,)]
        await shop.move("33")
        assert await state_of(job, "UPDATE orders SET status = 'SEEN' WHERE shop_id = 33") == "25006"


async def test_an_exception_that_the_shop_catches_gives_no_right_to_write(shop: FencedShop) -> None:
    await shop.move("1")
    caught: LiteralString = """
        DO $$ BEGIN
            BEGIN UPDATE orders SET status = 'X' WHERE shop_id = 1; EXCEPTION WHEN others THEN NULL; END;
            UPDATE orders SET status = 'Y' WHERE shop_id = 1;
        END $$"""
    assert await answer(shop, SOURCE, caught) == "25006"
