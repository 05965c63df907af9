"""What a snapshot has to be for the stitch: of the primary, behind every change that was dropped, of 64-bit ids."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, LiteralString

import pytest

from alih.errors import NeedsOperator
from alih.postgres import copying, follower
from alih.postgres.copying import ChunkCopy
from alih.postgres.embedded import Cluster, binary
from tests.integration.engine.world import World, connected, equal_tables, following, hold_before, rows
from tests.support.databases import Databases
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

ITEMS: LiteralString = "CREATE TABLE items (id bigint PRIMARY KEY, n int)"
ALL: LiteralString = "SELECT * FROM items ORDER BY id"
DROPPED: LiteralString = "SELECT cardinality(dropped) FROM alih.stream"


@asynccontextmanager
async def an_absent_standby(dsn: str) -> AsyncIterator[asyncio.Event]:
    """The source waits for a synchronous standby that does not exist, until the event is set."""
    back = asyncio.Event()
    async with connected(dsn) as admin, asyncio.TaskGroup() as tasks:

        async def wait_for_it() -> None:
            await back.wait()
            await admin.execute("ALTER SYSTEM RESET synchronous_standby_names")
            await admin.execute("SELECT pg_reload_conf()")

        await admin.execute("ALTER SYSTEM SET synchronous_standby_names = 'absent'")
        await admin.execute("SELECT pg_reload_conf()")
        await until(lambda: set_in_new_sessions(dsn))
        tasks.create_task(wait_for_it())
        try:
            yield back
        finally:
            back.set()


async def set_in_new_sessions(dsn: str) -> bool:
    async with connected(dsn) as fresh:
        return await rows(fresh, "SHOW synchronous_standby_names") == [("absent",)]


async def test_a_commit_that_is_streamed_before_it_is_visible_is_waited_for(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its change was dropped, for the copy had not begun; a snapshot without it must not be used, and its id must not
    be forgotten between the look at it and the use of the snapshot."""
    monkeypatch.setattr(follower, "_MANY_DROPPED", 1)  # forgotten as soon as it is visible
    snapshots = asyncio.Semaphore(0)
    one: Any = ChunkCopy._one

    async def noted(self: ChunkCopy, connection: Any, statement: str, parameters: tuple[Any, ...] = ()) -> Any:
        answer = await one(self, connection, statement, parameters)
        if statement == copying._SNAPSHOT:
            snapshots.release()
            if len(held) == 0:
                held.append(statement)
                await taken_up.wait()
        return answer

    held: list[str] = []
    taken_up = asyncio.Event()
    monkeypatch.setattr(ChunkCopy, "_one", noted)
    async with equal_tables(databases, tmp_path, ITEMS) as world, following(world.engine()):
        await world.source.execute("INSERT INTO items VALUES (1, 0)")
        await world.caught_up()
        async with asyncio.TaskGroup() as tasks, an_absent_standby(databases.source) as back:
            tasks.create_task(hanging(databases.source, "UPDATE items SET n = 1"))
            await until(lambda: is_dropped(world))
            tasks.create_task(world.engine().copy())
            await snapshots.acquire()
            assert await rows(world.source, ALL) == [(1, 0)]  # not visible, and the first snapshot is taken
            back.set()
            await until(lambda: is_visible(world))
            await world.source.execute("INSERT INTO items VALUES (2, 0)")
            await until(lambda: nothing_is_dropped(world))
            taken_up.set()
        assert snapshots._value >= 1  # another one was taken
        await world.caught_up()
        assert await world.both(ALL) == [(1, 1), (2, 0)]


async def hanging(dsn: str, statement: LiteralString) -> None:
    async with connected(dsn) as writer:
        await writer.execute(statement)


async def is_dropped(world: World) -> bool:
    return await rows(world.target, DROPPED) == [(1,)]


async def nothing_is_dropped(world: World) -> bool:
    return await rows(world.target, DROPPED) == [(0,)]


async def is_visible(world: World) -> bool:
    return await rows(world.source, ALL) == [(1, 1)]


async def test_a_standby_is_refused_by_name(databases: Databases, tmp_path: Path, pg_version: int) -> None:
    """Its snapshots list no open transactions: each that was open would be taken for seen."""
    place = tmp_path / "cluster"
    async with Cluster(place, pg_version) as primary:
        await primary.create_database("shop")
        async with connected(primary.dsn("shop")) as admin:
            await admin.execute(ITEMS)
    standby = place / "data" / "standby.signal"
    standby.touch()
    shutil.chown(standby, *owner_of(place / "data"))
    async with Cluster(place, pg_version) as standing_by, equal_tables(databases, tmp_path, ITEMS) as world:
        engine = replace(world.engine(), source=standing_by.dsn("shop"))
        with pytest.raises(NeedsOperator, match="the reading side is a standby"):
            await engine.copy()
        assert await rows(world.target, "SELECT state, row_count FROM alih.chunk") == [("spooling", None)]


def owner_of(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_uid, status.st_gid


WRAP = 2**32


async def test_ids_are_widened_across_the_wrap_of_the_counter(
    databases: Databases, tmp_path: Path, pg_version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the log stand ids of the fifth epoch and of the sixth, among them one of the fifth that is still open when a
    snapshot of the sixth is taken."""
    place = tmp_path / "cluster"
    await cluster_before_the_wrap(place, pg_version)
    snapshot, copy = hold_before(monkeypatch, "_take_snapshot"), hold_before(monkeypatch, "_forward_rows")
    async with AsyncExitStack() as stack:
        source = (await stack.enter_async_context(Cluster(place, pg_version))).dsn()
        world = await stack.enter_async_context(equal_tables(replace(databases, source=source), tmp_path, ITEMS))
        await world.source.execute("INSERT INTO items SELECT i, 0 FROM generate_series(1, 9) i")
        await spend_ids(world.source, until_id=6 * WRAP - 6)
        await stack.enter_async_context(following(world.engine()))
        await world.source.execute("UPDATE items SET n = 1 WHERE id = 1")  # dropped
        late = await stack.enter_async_context(connected(source))
        await late.execute("BEGIN; UPDATE items SET n = 2 WHERE id = 2; DELETE FROM items WHERE id = 3")
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(world.engine().copy(1))
            await snapshot.there.wait()
            await world.source.execute("UPDATE items SET n = 4 WHERE id = 4")  # spooled, and seen
            assert await epoch(world.source) == 5
            await spend_ids(world.source, until_id=6 * WRAP + 5)
            assert await epoch(world.source) == 6
            await world.source.execute("UPDATE items SET n = 5 WHERE id = 5")  # the same, behind the wrap
            snapshot.go.set()
            await copy.there.wait()
            await late.execute("COMMIT")  # not seen, though its id is far larger
            await world.source.execute("UPDATE items SET n = 6 WHERE id = 6")
            await world.caught_up()
            copy.go.set()
        await world.source.execute("UPDATE items SET n = n + 7 WHERE id = 2")
        await world.caught_up()
        numbers = [(1, 1), (2, 9), (4, 4), (5, 5), (6, 6), (7, 0), (8, 0), (9, 0)]
        assert await world.both(ALL) == numbers


async def cluster_before_the_wrap(place: Path, version: int) -> None:
    """A cluster in its fifth epoch, some hundred transactions before the sixth. Its rows are frozen first, for to ids
    so far away they would lie in the future."""
    async with Cluster(place, version) as made:
        async with connected(made.dsn()) as admin:
            await admin.execute("ALTER DATABASE template0 WITH ALLOW_CONNECTIONS true")
        for database in ("template0", "template1", "postgres"):
            async with connected(made.dsn(database)) as admin:
                await admin.execute("VACUUM FREEZE")
    data, next_id = place / "data", WRAP - 200
    segment = data / "pg_xact" / f"{next_id // (8192 * 4 * 32):04X}"  # two bits for each id, 32 pages in a file
    segment.write_bytes(bytes(32 * 8192))
    owner = data.stat()
    os.chown(segment, owner.st_uid, owner.st_gid)
    argv = [str(binary("pg_resetwal", version)), "-e", "5", "-x", str(next_id), "-u", str(next_id - 10), "."]
    user, group = (owner.st_uid, owner.st_gid) if os.geteuid() == 0 else (None, None)
    await asyncio.to_thread(subprocess.run, argv, check=True, cwd=data, capture_output=True, user=user, group=group)


async def spend_ids(connection: Any, until_id: int) -> None:
    """Use up transaction ids until this one is the next, or is past."""
    while await next_id(connection) < until_id:
        await connection.execute("SELECT pg_current_xact_id()")


async def next_id(connection: Any) -> int:
    ((xmax,),) = await rows(connection, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
    return int(xmax)


async def epoch(connection: Any) -> int:
    return await next_id(connection) // WRAP
