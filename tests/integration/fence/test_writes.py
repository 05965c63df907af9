"""What the fence refuses and what it leaves alone, by which SQLSTATE: every way to write, and every writer."""

import asyncio
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import errors

from alih.errors import Retryable
from alih.model.change import Lsn
from alih.model.side import SHARED, Ownership, Side
from alih.postgres import fence
from tests.support.fenced_shop import WRITES, FencedShop, answer, state_of
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

SOURCE, TARGET = Side.SOURCE, Side.TARGET
Connection = psycopg.AsyncConnection[tuple[Any, ...]]

_ADVISORY: LiteralString = """
    SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted
       AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""


@pytest.mark.parametrize("statement", WRITES)
async def test_one_side_accepts_a_write_before_and_after_the_move(shop: FencedShop, statement: LiteralString) -> None:
    assert await answer(shop, TARGET, statement) == "25006"
    async with shop.app(SOURCE) as app:
        assert await state_of(app, statement) == "00000"
    await shop.move("1")
    assert await answer(shop, SOURCE, statement) == "25006"
    if statement != WRITES[8]:  # which touches the shops that have not moved
        assert await answer(shop, TARGET, statement) == "00000"


async def test_between_the_two_turns_neither_side_accepts_a_write(shop: FencedShop) -> None:
    await shop.fences[SOURCE].close("1", 1)
    assert [await answer(shop, side, WRITES[1]) for side in Side] == ["25006", "25006"]
    assert await answer(shop, SOURCE, "INSERT INTO orders VALUES (21, 2, 'UNPAID')") == "00000"


async def test_an_abort_lets_the_source_write_again(shop: FencedShop) -> None:
    await shop.fences[SOURCE].close("1", 1)
    await shop.fences[SOURCE].open("1", 2)
    assert [await answer(shop, side, WRITES[1]) for side in Side] == ["00000", "25006"]
    assert await shop.fences[SOURCE].owner("1") == Ownership("1", SOURCE, 2)


async def test_shared_rows_have_their_own_turn(shop: FencedShop) -> None:
    use: LiteralString = "UPDATE vouchers SET used = true"
    for tenant in "123":
        await shop.move(tenant)
    assert [await answer(shop, side, use) for side in Side] == ["00000", "25006"]
    await shop.move(SHARED)
    assert [await answer(shop, side, use) for side in Side] == ["25006", "00000"]


async def test_reference_rows_are_never_fenced(shop: FencedShop) -> None:
    assert [await answer(shop, side, "INSERT INTO plans VALUES (1)") for side in Side] == ["00000", "00000"]


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
async def test_a_snapshot_older_than_the_fence_cannot_write(shop: FencedShop, isolation: str) -> None:
    async with shop.app(SOURCE, isolation=isolation) as writer, shop.app(TARGET, isolation=isolation) as eager:
        for connection in (writer, eager):
            await connection.execute("SELECT count(*) FROM orders")  # takes the snapshot
        await shop.move("1")
        assert await state_of(writer, WRITES[1]) == "40001"
        assert await state_of(eager, WRITES[1]) == "40001"
        await writer.rollback()
        await eager.rollback()
        assert await state_of(writer, WRITES[1]) == "25006"
        assert await state_of(eager, WRITES[1]) == "00000"


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
async def test_a_snapshot_older_than_the_fence_cannot_truncate(shop: FencedShop, isolation: str) -> None:
    async with shop.app(SOURCE, isolation=isolation) as writer:
        await writer.execute("SELECT count(*) FROM orders")
        await shop.move("1")
        assert await state_of(writer, "TRUNCATE lines") == "40001"
    assert await shop.rows(SOURCE, "SELECT count(*) FROM lines") == [(3,)]


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
async def test_a_writer_above_read_committed_does_not_keep_an_abort_from_ending(
    shop: FencedShop, isolation: str
) -> None:
    async with shop.app(SOURCE, isolation=isolation) as writer:
        await writer.execute(WRITES[1])
        with pytest.raises(Retryable, match="a transaction that writes its rows on the source does not end"):
            await shop.fences[SOURCE].close("1", 1)
        async with asyncio.timeout(5):
            await shop.fences[SOURCE].open("1", 2)
        await writer.commit()


async def test_a_writer_that_met_the_fence_while_waiting_reads_the_turned_row(shop: FencedShop) -> None:
    """Read committed: the statement began before the fence, and its lock is granted after it."""
    async with shop.app(SOURCE) as writer, await psycopg.AsyncConnection.connect(shop.dsns[SOURCE]) as turning:
        await turning.execute("SELECT pg_advisory_xact_lock(%s, hashtext('1') | 1)", (fence._LOCK_CLASS,))
        async with asyncio.TaskGroup() as tasks:
            waiting = tasks.create_task(state_of(writer, WRITES[1]))
            await until(lambda: _waits(shop))
            await turning.execute("UPDATE alih.owner SET side = 'target', epoch = 1 WHERE tenant = '1'")
            await turning.commit()
        assert waiting.result() == "25006"


async def _waits(shop: FencedShop) -> bool:
    return await shop.rows(SOURCE, "SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted") != []


async def test_the_fence_waits_for_an_open_writer_and_cuts_behind_its_commit(
    shop: FencedShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fence, "_LOCK_ATTEMPTS", 50)
    async with shop.app(SOURCE) as writer:
        await writer.execute("SET synchronous_commit = off")
        await writer.execute(WRITES[1])
        async with asyncio.TaskGroup() as tasks:
            closing = tasks.create_task(shop.fences[SOURCE].close("1", 1))
            await until(lambda: _waits(shop))
            assert not closing.done()
            await writer.commit()
            ((committed,),) = await (await writer.execute("SELECT pg_current_wal_insert_lsn()::text")).fetchall()
        assert closing.result() >= Lsn.parse(committed)


async def test_the_cut_lies_behind_writers_that_commit_asynchronously(shop: FencedShop) -> None:
    """The commit record of each is where the log ended right after it; the cut is never before that."""
    async with shop.app(SOURCE) as writer:
        await writer.execute("SET synchronous_commit = off")
        await writer.commit()
        for epoch in range(1, 20, 2):
            await writer.execute("UPDATE orders SET status = status || 'x' WHERE shop_id = 1")
            await writer.commit()
            ((end,),) = await shop.rows(SOURCE, "SELECT pg_current_wal_insert_lsn()::text")
            cut = await shop.fences[SOURCE].close("1", epoch)
            assert cut >= Lsn.parse(end)
            ((flushed,),) = await shop.rows(SOURCE, "SELECT pg_current_wal_flush_lsn()::text")
            assert cut <= Lsn.parse(flushed)
            await shop.fences[SOURCE].open("1", epoch + 1)


async def test_a_fence_that_cannot_be_had_changes_nothing(shop: FencedShop) -> None:
    async with shop.app(SOURCE) as writer:
        await writer.execute(WRITES[1])
        with pytest.raises(Retryable, match="tenant 1: a transaction that writes its rows on the source does not end"):
            await shop.fences[SOURCE].close("1", 1)
        assert await shop.fences[SOURCE].owner("1") == Ownership("1", SOURCE, 0)
        await writer.commit()
    await shop.fences[SOURCE].close("1", 3)


async def test_a_prepared_transaction_holds_the_fence_off(shop: FencedShop) -> None:
    async with shop.app(SOURCE) as writer:
        await writer.execute(WRITES[1])
        await writer.execute("PREPARE TRANSACTION 'job'")
        with pytest.raises(Retryable, match="does not end"):
            await shop.fences[SOURCE].close("1", 1)
        assert await answer(shop, SOURCE, "INSERT INTO orders VALUES (12, 1, 'UNPAID')") == "00000"
        await shop.admins[SOURCE].execute("COMMIT PREPARED 'job'")
        await shop.fences[SOURCE].close("1", 3)
        assert await shop.rows(SOURCE, "SELECT order_id FROM orders WHERE shop_id = 1 ORDER BY 1") == [
            (10,),
            (11,),
            (12,),
        ]


# --- ways to write ----------------------------------------------------------------------------------------------


async def test_copy_and_many_rows_at_once_meet_the_fence(shop: FencedShop) -> None:
    await shop.move("2")
    async with shop.app(SOURCE) as writer:
        with pytest.raises(errors.ReadOnlySqlTransaction):
            async with writer.cursor().copy("COPY orders (order_id, shop_id, status) FROM STDIN") as copy:
                await copy.write("101\t1\tNEW\n102\t2\tNEW\n")
        await writer.rollback()
        async with writer.cursor().copy("COPY orders (order_id, shop_id, status) FROM STDIN") as copy:
            await copy.write("101\t1\tNEW\n103\t3\tNEW\n")
        await writer.commit()
    assert await answer(shop, SOURCE, "INSERT INTO orders VALUES (111, 1, 'N'), (112, 2, 'N')") == "25006"
    assert await shop.rows(SOURCE, "SELECT order_id FROM orders WHERE status IN ('N', 'NEW') ORDER BY 1") == [
        (101,),
        (103,),
    ]


async def test_a_row_may_not_go_to_a_shop_that_has_moved_nor_come_from_one(shop: FencedShop) -> None:
    await shop.move("2")
    assert await answer(shop, SOURCE, "UPDATE orders SET shop_id = 2 WHERE order_id = 10") == "25006"
    assert await answer(shop, SOURCE, "UPDATE orders SET shop_id = 1 WHERE order_id = 20") == "25006"
    assert await answer(shop, SOURCE, "UPDATE orders SET shop_id = 3 WHERE order_id = 10") == "00000"
    assert await answer(shop, SOURCE, "UPDATE lines SET order_id = 20, line_no = 9 WHERE order_id = 30") == "25006"


async def test_a_trigger_of_the_shops_own_cannot_change_the_shop_behind_the_fence(shop: FencedShop) -> None:
    await shop.admins[SOURCE].execute("""
        CREATE FUNCTION zz() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.shop_id := 2; RETURN NEW; END';
        CREATE TRIGGER zzz_last BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION zz();""")
    await shop.move("2")
    assert await answer(shop, SOURCE, "INSERT INTO orders VALUES (11, 1, 'UNPAID')") == "25006"


@pytest.mark.parametrize("side", list(Side))
async def test_truncate_is_for_the_side_that_owns_all(shop: FencedShop, side: Side) -> None:
    assert await answer(shop, TARGET, "TRUNCATE vouchers") == "25006"
    assert await answer(shop, SOURCE, "TRUNCATE lines") == "00000"
    await shop.move("1")
    assert await answer(shop, side, "TRUNCATE lines") == "25006"
    assert await answer(shop, side, "TRUNCATE shops CASCADE") == "25006"
    assert await answer(shop, side, "TRUNCATE plans") == "00000"


async def test_a_truncate_holds_the_fence_off(shop: FencedShop) -> None:
    async with shop.app(SOURCE) as writer:
        await writer.execute("TRUNCATE lines")
        with pytest.raises(Retryable):
            await shop.fences[SOURCE].close("1", 1)
        await writer.rollback()


async def test_a_cascade_from_a_shop_that_has_moved_is_refused_whole(shop: FencedShop) -> None:
    await shop.move("1")
    assert await answer(shop, SOURCE, "DELETE FROM shops WHERE shop_id = 1") == "25006"
    assert await answer(shop, TARGET, "DELETE FROM shops WHERE shop_id = 1") == "00000"
    assert await shop.rows(TARGET, "SELECT order_id FROM lines ORDER BY 1") == [(20,), (30,)]
    assert await shop.rows(SOURCE, "SELECT order_id FROM lines ORDER BY 1") == [(10,), (20,), (30,)]


# --- who writes -------------------------------------------------------------------------------------------------


async def test_the_shops_role_needs_no_right_on_alihs_schema(shop: FencedShop) -> None:
    async with shop.app(SOURCE) as app:
        assert await state_of(app, "SELECT FROM alih.owner") == "42501"
        await app.rollback()
        assert await state_of(app, "SELECT alih.admit('1')") == "42501"
        await app.rollback()
        assert await state_of(app, WRITES[1]) == "00000"


async def test_replicated_writes_are_fenced_but_alihs_own(shop: FencedShop) -> None:
    await shop.admins[TARGET].execute("GRANT SET ON PARAMETER session_replication_role TO shop_app")
    async with shop.app(TARGET) as foreign, shop.app(TARGET, user="postgres") as own:
        for connection in (foreign, own):
            await connection.execute("SET session_replication_role = replica")
        assert await state_of(foreign, WRITES[1]) == "25006"
        assert await state_of(own, WRITES[1]) == "00000"


async def test_alihs_own_role_is_fenced_when_it_does_not_replicate(shop: FencedShop) -> None:
    """A shop that connects as the same role is fenced all the same."""
    assert await state_of(shop.admins[TARGET], WRITES[1]) == "25006"
    assert await state_of(shop.admins[TARGET], "TRUNCATE lines") == "25006"


async def test_a_temporary_object_of_the_shops_does_not_mislead_the_fence(shop: FencedShop) -> None:
    await shop.move("1")
    async with shop.app(SOURCE) as app:
        await app.execute("CREATE TEMPORARY TABLE orders (order_id bigint, shop_id bigint)")
        await app.execute("CREATE DOMAIN pg_temp.text AS pg_catalog.varchar(1)")
        assert await state_of(app, "INSERT INTO public.lines VALUES (10, 7)") == "25006"


async def test_rows_of_the_shops_own_account_are_left_alone(shop: FencedShop) -> None:
    own: tuple[LiteralString, ...] = (
        "INSERT INTO orders VALUES (71, 1, 'PAID', 'marketplace')",
        "INSERT INTO lines VALUES (71, 1)",
        "UPDATE orders SET status = 'SHIPPED' WHERE order_id = 71",
        "DELETE FROM orders WHERE order_id = 71",
    )
    assert [await answer(shop, TARGET, statement) for statement in own] == ["00000"] * 4
    await answer(shop, TARGET, own[0])
    assert await answer(shop, TARGET, "UPDATE orders SET channel = 'social' WHERE order_id = 71") == "25006"
    assert await answer(shop, TARGET, "UPDATE orders SET channel = 'marketplace' WHERE order_id = 10") == "25006"


async def test_a_new_shop_is_written_at_once_where_it_opened(shop: FencedShop) -> None:
    async with shop.app(SOURCE) as app:
        await app.execute("INSERT INTO shops VALUES (9, 'baru')")
        await app.execute("INSERT INTO orders VALUES (91, 9, 'UNPAID')")
        await app.execute("INSERT INTO lines VALUES (91, 1)")
        await app.commit()
    assert await shop.fences[SOURCE].owner("9") == Ownership("9", SOURCE, 0)
    assert await answer(shop, TARGET, "INSERT INTO shops VALUES (9, 'baru')") == "40001"


async def test_a_shop_that_opened_after_the_snapshot_is_no_hole(shop: FencedShop) -> None:
    await shop.admins[SOURCE].execute("ALTER TABLE orders DROP CONSTRAINT orders_shop_id_fkey")
    async with shop.app(SOURCE, isolation="repeatable read") as old:
        await old.execute("SELECT count(*) FROM shops")
        await answer(shop, SOURCE, "INSERT INTO shops VALUES (9, 'baru')")
        assert await state_of(old, "INSERT INTO orders VALUES (91, 9, 'UNPAID')") == "40001"
