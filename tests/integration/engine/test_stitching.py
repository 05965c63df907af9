"""Copy and log of one row in every order: what was changed before, during and after the copy arrives once."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from alih.postgres import follower, log, replaying
from alih.postgres.engine import Engine
from alih.postgres.worker import Worker
from tests.integration.engine.world import World, connected, equal_tables, following, hold_before, rows
from tests.support.databases import Databases
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

ITEMS = "CREATE TABLE items (id bigint PRIMARY KEY, name text, seen int)"
ALL = "SELECT * FROM items ORDER BY id"


@asynccontextmanager
async def copying(engine: Engine) -> AsyncIterator[None]:
    """A copy that runs beside the test and ends with the block."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(engine.copy())
        yield


async def change_everything(world: World, phase: int) -> None:
    """In one phase: insert, update, delete and re-key rows of this phase's own, and update the one row of all."""
    base = 100 * phase
    await world.source.execute(
        "WITH i AS (INSERT INTO items VALUES (%(i)s, 'new', %(p)s)),"
        " u AS (UPDATE items SET name = 'changed' WHERE id = %(u)s),"
        " d AS (DELETE FROM items WHERE id = %(d)s), k AS (UPDATE items SET id = %(k)s + 10 WHERE id = %(k)s)"
        " UPDATE items SET seen = seen + 1, name = 'phase ' || %(p)s WHERE id = 1",
        {"i": base, "u": base + 1, "d": base + 2, "k": base + 3, "p": phase},
    )


async def start_rows(world: World, phases: int) -> None:
    await world.source.execute("INSERT INTO items VALUES (1, 'phase 0', 0)")
    for base in range(100, 100 * phases + 1, 100):
        await world.source.execute(
            "INSERT INTO items SELECT i, 'old', 0 FROM generate_series(%s::int, %s::int) i", (base + 1, base + 3)
        )


def expected(phases: int) -> list[tuple[int, str, int]]:
    found = [(1, f"phase {phases}", phases)]
    for phase in range(1, phases + 1):
        base = 100 * phase
        found += [(base, "new", phase), (base + 1, "changed", 0), (base + 13, "old", 0)]
    return found


@pytest.mark.parametrize("batch", [20_000, 1], ids=["folded", "one by one"])
async def test_each_change_counts_once_wherever_it_meets_the_copy(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(replaying, "_REPLAY", batch)
    monkeypatch.setattr(follower, "_BATCH", batch)
    snapshot, copy, merge = (hold_before(monkeypatch, s) for s in ("_take_snapshot", "_forward_rows", "_lock"))
    async with equal_tables(databases, tmp_path, ITEMS) as world:
        await start_rows(world, 5)
        async with following(world.engine()):
            await change_everything(world, 1)  # before anybody copies: dropped, the snapshot has it
            await world.caught_up()
            async with copying(world.engine()):
                await snapshot.there.wait()
                await change_everything(world, 2)  # spooled, and the snapshot has it
                await world.caught_up()
                snapshot.go.set()
                await copy.there.wait()
                await change_everything(world, 3)  # spooled, and the snapshot lacks it
                await world.caught_up()
                copy.go.set()
                await merge.there.wait()
                await change_everything(world, 4)
                await world.caught_up()
                merge.go.set()
            await change_everything(world, 5)
            await world.caught_up()
        assert await world.both(ALL) == expected(5)
        assert await rows(world.target, "SELECT count(*) FROM alih.spool") == [(0,)]


async def test_a_log_read_after_the_copy_is_judged_by_the_snapshot(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = hold_before(monkeypatch, "_forward_rows")
    async with equal_tables(databases, tmp_path, ITEMS) as world:
        await start_rows(world, 3)
        await change_everything(world, 1)
        async with copying(world.engine()):
            await copy.there.wait()
            await change_everything(world, 2)
            copy.go.set()
        await change_everything(world, 3)
        async with following(world.engine()):
            await world.caught_up()
        assert await world.both(ALL) == expected(3)


@pytest.mark.parametrize("streamed", ["before the merge", "after it"])
async def test_a_transaction_that_is_open_at_the_snapshot(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, streamed: str
) -> None:
    copy, merge = hold_before(monkeypatch, "_forward_rows"), hold_before(monkeypatch, "_lock")
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(equal_tables(databases, tmp_path, ITEMS))
        other = await stack.enter_async_context(connected(databases.source))
        await start_rows(world, 1)
        await stack.enter_async_context(following(world.engine()))
        async with copying(world.engine()):
            await other.execute("BEGIN; UPDATE items SET name = 'late' WHERE id = 1; DELETE FROM items WHERE id = 102")
            await copy.there.wait()
            await world.source.execute("INSERT INTO items VALUES (5, 'early', 0)")
            copy.go.set()
            await merge.there.wait()
            if streamed == "before the merge":
                await other.execute("COMMIT")
            await world.caught_up()
            merge.go.set()
        if streamed == "after it":
            await other.execute("COMMIT")
        await world.caught_up()
        rows_now = await world.both(ALL)
        assert rows_now == [(1, "late", 0), (5, "early", 0), (101, "old", 0), (103, "old", 0)]


async def test_commits_in_another_order_than_begins(databases: Databases, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(equal_tables(databases, tmp_path, ITEMS))
        await world.engine().copy()
        first, second = [await stack.enter_async_context(connected(databases.source)) for _ in range(2)]
        await stack.enter_async_context(following(world.engine()))
        await first.execute("BEGIN; INSERT INTO items VALUES (1, 'first', 1)")
        await second.execute("BEGIN; INSERT INTO items VALUES (2, 'second', 2)")
        await first.execute("INSERT INTO items VALUES (3, 'first', 3)")
        await second.execute("COMMIT")
        await world.caught_up()
        assert await rows(world.target, ALL) == [(2, "second", 2)]
        await first.execute("COMMIT")
        await world.caught_up()
        assert await world.both(ALL) == [(1, "first", 1), (2, "second", 2), (3, "first", 3)]


@pytest.mark.parametrize("when", ["copied", "while copying"])
async def test_a_transaction_of_many_batches_arrives_whole(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    monkeypatch.setattr(follower, "_BATCH", 20)
    monkeypatch.setattr(replaying, "_REPLAY", 30)
    monkeypatch.setattr(log, "_MOST_AT_ONCE", 7)
    merge = hold_before(monkeypatch, "_lock")
    async with equal_tables(databases, tmp_path, ITEMS) as world:
        await world.source.execute("INSERT INTO items SELECT i, 'old', 0 FROM generate_series(1, 50) i")
        async with following(world.engine()):
            async with copying(world.engine()):
                await merge.there.wait()
                if when == "copied":
                    merge.go.set()
                else:
                    await rewrite(world)
                    await world.caught_up()
                    merge.go.set()
            if when == "copied":
                await rewrite(world)
            await world.caught_up()
        assert len(await world.both(ALL)) == 150
        assert await rows(world.target, "SELECT sum(id), sum(seen), min(name) FROM items") == [(18_825, 450, "end")]


async def rewrite(world: World) -> None:
    """250 changes in one transaction: inserts, updates, and 50 rows that change their keys."""
    async with world.source.transaction():
        await world.source.execute("INSERT INTO items SELECT i, 'new', 1 FROM generate_series(51, 150) i")
        await world.source.execute("UPDATE items SET id = id + 150, seen = seen + 1 WHERE id <= 50")
        await world.source.execute("UPDATE items SET seen = 3, name = 'end'")


async def everybody_may(_: Worker, __: int) -> bool:
    return True


async def test_two_workers_on_one_chunk_merge_once(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A zombie: its claim is gone, as behind a pooler of connections, and it does not know."""
    monkeypatch.setattr(Worker, "_lock", everybody_may)
    async with equal_tables(databases, tmp_path, ITEMS) as world:
        await start_rows(world, 1)
        merge = hold_before(monkeypatch, "_lock")
        merged_elsewhere = asyncio.Event()

        async def zombie() -> None:
            with pytest.raises(Exception, match="another worker has taken this chunk over"):
                await world.engine().copy(workers=1)
            merged_elsewhere.set()

        async with following(world.engine()), asyncio.TaskGroup() as tasks:
            tasks.create_task(zombie())
            await merge.there.wait()
            tasks.create_task(world.engine().copy(workers=1))
            await until(lambda: attempted_twice(world))
            merge.go.set()
        assert merged_elsewhere.is_set()
        assert len(await world.both(ALL)) == 4


async def attempted_twice(world: World) -> bool:
    return await rows(world.target, "SELECT attempt FROM alih.chunk") == [(2,)]
