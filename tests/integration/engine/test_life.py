"""The life of a stream: connections that are lost, servers that wait, keepalives, and what a position belongs to."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from alih.errors import NeedsOperator, Retryable
from alih.model.projection import Direction
from alih.postgres import status
from alih.postgres.embedded import Cluster
from alih.postgres.engine import Engine
from alih.postgres.line import Line
from alih.postgres.session import connect
from alih.process import child
from tests.integration.engine.world import NAME, Connection, World, connected, equal_tables, following, rows
from tests.support.databases import Databases
from tests.support.pgtools import run
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

ITEMS = "CREATE TABLE items (id bigint PRIMARY KEY, name text)"
ALL = "SELECT id FROM items ORDER BY id"
SLOT = f"alih_{NAME}_forward"
SENDER: LiteralString = (
    "SELECT pid, reply_time FROM pg_stat_replication r JOIN pg_replication_slots s ON s.active_pid = r.pid"
    " WHERE s.database = current_database()"
)
_KILL: LiteralString = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'alih'"
    " AND datname = current_database() AND backend_type = %s"
)


async def kill_sessions(dsn: str, kind: str) -> int:
    async with connected(dsn) as admin:
        ((count,),) = await (await admin.execute(_KILL, (kind,))).fetchall()
        return int(count)


@pytest.mark.parametrize(("side", "kind"), [("source", "walsender"), ("target", "client backend")])
async def test_a_lost_connection_is_made_anew(databases: Databases, tmp_path: Path, side: str, kind: str) -> None:
    async with equal_tables(databases, tmp_path, ITEMS) as world:
        await world.engine().copy()
        async with following(world.engine()):
            await world.caught_up()
            for number in range(3):
                assert await kill_sessions(getattr(databases, side), kind) >= 1
                await world.source.execute("INSERT INTO items VALUES (%s)", (number,))
                await world.caught_up()
        assert await rows(world.target, "SELECT state, stopped FROM alih.stream") == [("following", None)]
        assert await world.both(ALL) == [(0,), (1,), (2,)]


async def test_who_waits_for_a_position_gets_a_new_connection(databases: Databases, tmp_path: Path) -> None:
    async with equal_tables(databases, tmp_path, ITEMS) as world, following(world.engine()):
        position = await world.caught_up()
        async with world.engine().applied() as applied:
            for _ in range(2):
                await applied.position()
                assert await kill_sessions(databases.target, "client backend") >= 1
                await applied.reached(position, 5)


async def test_a_line_that_was_cut_while_idle_is_new_for_the_next_user(databases: Databases) -> None:
    async with Line(databases.source, "the source database") as line:
        for _ in range(2):
            async with line.connection() as connection:
                await connection.execute("SELECT 1")
            assert await kill_sessions(databases.source, "client backend") == 1


async def test_too_many_clients_pass_and_a_wrong_role_does_not(databases: Databases) -> None:
    async with connected(databases.source) as admin:
        await admin.execute("CREATE ROLE busy LOGIN CONNECTION LIMIT 0")
        with pytest.raises(Retryable, match="too many connections"):
            await connect(f"{databases.source} user=busy", "the source database")
        with pytest.raises(NeedsOperator, match="nobody_here"):
            await connect(f"{databases.source} user=nobody_here", "the source database")


@asynccontextmanager
async def impatient(world: World) -> AsyncIterator[None]:
    """The source's walsenders end a stream that is silent for 400 ms."""
    ((database,),) = await rows(world.source, "SELECT current_database()")
    alter = sql.SQL("ALTER DATABASE {} {} wal_sender_timeout")
    name = sql.Identifier(database)
    await world.source.execute(alter.format(name, sql.SQL("SET")) + sql.SQL(" = '400ms'"))
    yield
    await world.source.execute(alter.format(name, sql.SQL("RESET")))


async def replied_for(world: World, seconds: float) -> None:
    """Wait until the walsender has had replies for so long; it stays the same one all the time."""
    ((pid, since),) = await rows(world.source, SENDER)

    async def long_enough() -> bool:
        ((now_pid, replied),) = await rows(world.source, SENDER)
        assert now_pid == pid
        return bool((replied - since).total_seconds() >= seconds)

    await until(long_enough)


async def test_a_batch_may_last_longer_than_the_server_waits_for_replies(databases: Databases, tmp_path: Path) -> None:
    async with equal_tables(databases, tmp_path, ITEMS) as world, impatient(world):
        await world.engine().copy()
        async with following(world.engine()), connected(databases.target) as blocker:
            await world.caught_up()
            async with blocker.transaction():
                await blocker.execute("LOCK TABLE items IN SHARE MODE")
                await world.source.execute("INSERT INTO items VALUES (1)")
                await replied_for(world, 1.0)
            await world.caught_up()
        assert await world.both(ALL) == [(1,)]


async def confirmed_is_stored(world: World) -> bool:
    ((confirmed,),) = await rows(world.source, "SELECT confirmed_flush_lsn::text FROM pg_replication_slots")
    ((held,),) = await (
        await world.target.execute("SELECT %s::pg_lsn <= position FROM alih.stream", (confirmed,))
    ).fetchall()
    return bool(held)


async def test_keepalives_never_move_the_position_past_what_is_not_applied(
    databases: Databases, tmp_path: Path
) -> None:
    """One transaction is open, one of 200 rows at a few shared places of the log is received and not applied, while
    keepalives come. Then the connection goes, and both transactions have to arrive once."""
    async with equal_tables(databases, tmp_path, ITEMS) as world, impatient(world):
        await world.engine().copy()
        async with (
            following(world.engine()),
            connected(databases.target) as blocker,
            connected(databases.source) as late,
        ):
            await world.caught_up()
            async with late.transaction():
                await late.execute("INSERT INTO items VALUES (1000)")  # begins first, commits last
                async with blocker.transaction():
                    await blocker.execute("LOCK TABLE items IN SHARE MODE")
                    async with world.source.cursor().copy("COPY items (id) FROM STDIN") as copy:
                        for number in range(200):
                            await copy.write_row((number,))
                    await replied_for(world, 0.5)
                    assert await confirmed_is_stored(world)
                    assert await kill_sessions(databases.source, "walsender") == 1
                await world.caught_up()
                assert await confirmed_is_stored(world)
            await world.caught_up()
        assert [id_ for (id_,) in await world.both(ALL)] == [*range(200), 1000]


async def test_a_server_that_shuts_down_is_told_of_log_without_rows(databases: Databases, tmp_path: Path) -> None:
    """It waits until all it has sent is confirmed. Much log without rows for us is let go of by itself."""
    async with equal_tables(databases, tmp_path, ITEMS) as world:
        await world.engine().copy()
        async with following(world.engine()):
            before = await world.caught_up()
            await world.source.execute("CREATE TABLE others AS SELECT repeat('x', 1000) FROM generate_series(1, 20000)")
            ((end,),) = await rows(world.source, "SELECT (pg_current_wal_lsn() - (5 << 20)::numeric)::text")

            async def let_go() -> bool:
                return await confirmed_past(world, end)

            await until(let_go, within_s=20)
            assert await confirmed_is_stored(world)
            assert str(before) < str(end)


async def confirmed_past(world: World, position: str) -> bool:
    cursor = await world.source.execute(
        "SELECT confirmed_flush_lsn >= %s::pg_lsn FROM pg_replication_slots WHERE slot_name = %s", (position, SLOT)
    )
    return (await cursor.fetchall()) == [(True,)]


# --- states by name ---------------------------------------------------------------------------------------------


async def shown(world: World, direction: Direction = Direction.FORWARD) -> dict[str, Any]:
    found = await status.stream(world.source, world.target, direction)
    assert found is not None
    return found


LOST = (
    "the slot of the forward stream is gone, was moved on by somebody else, or lost its log\n"
    "  → changes may be missing: alih clean, then start the copy anew"
)
MOVED = "the source is another server, or was promoted, since its position was stored\n"
GONE = "the publication of the forward stream is gone, or was made anew\n"


@pytest.mark.parametrize(
    ("side", "statement", "state", "said"),
    [
        ("source", f"SELECT pg_drop_replication_slot('{SLOT}')", "slot lost", LOST),
        (
            "source",
            f"SELECT pg_drop_replication_slot('{SLOT}');"
            f" SELECT pg_create_logical_replication_slot('{SLOT}', 'pgoutput')",
            "slot lost",
            LOST,
        ),
        ("source", f"SELECT pg_replication_slot_advance('{SLOT}', pg_current_wal_lsn())", "slot lost", LOST),
        ("source", f"DROP PUBLICATION {SLOT}", "publication gone", GONE),
        ("source", f"DROP PUBLICATION {SLOT}; CREATE PUBLICATION {SLOT} FOR TABLE items", "publication gone", GONE),
        ("target", "UPDATE alih.stream SET timeline = timeline + 1", "failed over", MOVED),
        ("target", "UPDATE alih.stream SET system_id = '7'", "failed over", MOVED),
    ],
)
async def test_what_the_position_belonged_to_is_gone(
    databases: Databases, tmp_path: Path, side: str, statement: LiteralString, state: str, said: str
) -> None:
    """It has a name, before anybody follows and after; setting up again makes nothing anew."""
    async with equal_tables(databases, tmp_path, ITEMS) as world:
        await world.engine().copy()
        async with following(world.engine()):
            await world.caught_up()
        assert (await shown(world))["state"] == "following"
        await world.source.execute("INSERT INTO items VALUES (1)")
        for part in statement.split(";"):
            await getattr(world, side).execute(part)
        assert (await shown(world))["state"] == state
        for _ in range(2):
            with pytest.raises(NeedsOperator) as stop:
                await world.engine().follow()
            assert str(stop.value).startswith(said)
            assert await rows(world.target, "SELECT state, stopped FROM alih.stream") == [(state, str(stop.value))]
            if "publication" not in state:
                await world.engine().open()


async def test_a_publication_that_goes_while_it_is_followed(databases: Databases, tmp_path: Path) -> None:
    async with equal_tables(databases, tmp_path, ITEMS) as world, asyncio.TaskGroup() as tasks:
        await world.engine().copy()

        async def ends() -> str:
            with pytest.raises(NeedsOperator) as stop:
                await world.engine().follow()
            return str(stop.value)

        stream = tasks.create_task(ends())
        await world.source.execute("INSERT INTO items VALUES (1)")
        await world.caught_up()
        await world.source.execute(sql.SQL("DROP PUBLICATION {}").format(sql.Identifier(SLOT)))
        await world.source.execute("INSERT INTO items VALUES (2)")
        async with asyncio.timeout(10):
            assert (await stream).startswith(GONE)
        assert (await shown(world))["state"] == "publication gone"


async def set_limit(source: Connection, value: LiteralString) -> None:
    await source.execute("ALTER SYSTEM " + value)
    await source.execute("SELECT pg_reload_conf()")


async def test_the_budget_of_a_slot_and_what_happens_when_it_is_spent(databases: Databases, tmp_path: Path) -> None:
    async with equal_tables(databases, tmp_path, ITEMS) as world:
        free = await shown(world)
        assert (free["wal_status"], free["safe_bytes"], free["lost_in_s"]) == ("reserved", None, None)
        assert free["retained_bytes"] >= 0
        await set_limit(world.source, "SET max_slot_wal_keep_size = '64MB'")
        try:
            await until(lambda: limited(world), within_s=10)
            found = await shown(world)
            assert 0 < found["safe_bytes"] <= 96 << 20
            assert found["lost_in_s"] == pytest.approx(found["safe_bytes"] / found["log_bytes_per_s"], rel=0.2, abs=2)
            await set_limit(world.source, "SET max_slot_wal_keep_size = '1MB'")
            for _ in range(3):
                await world.source.execute("SELECT pg_logical_emit_message(false, 'x', '')")
                await world.source.execute("SELECT pg_switch_wal()")
            await world.source.execute("CHECKPOINT")
            assert (await shown(world))["state"] == "slot lost"
            with pytest.raises(NeedsOperator) as stop:
                await world.engine().follow()
            assert str(stop.value) == LOST
        finally:
            await set_limit(world.source, "RESET max_slot_wal_keep_size")


async def limited(world: World) -> bool:
    return (await shown(world))["safe_bytes"] is not None


# --- a slot that was made, and its maker killed -----------------------------------------------------------------

OPEN = """
import asyncio, os, signal, sys
from pathlib import Path
from alih import app, faults
from alih.config import Environment
from alih.model.projection import Direction
faults.plant(lambda point: os.kill(os.getpid(), signal.SIGKILL) if point is faults.Point.SLOT_MADE else None)
async def main():
    async with app.opened(Path(sys.argv[1]), Environment.of_process()) as migration:
        await migration.engine(Direction.FORWARD).open()
asyncio.run(main())
"""


async def test_a_slot_whose_maker_was_killed_is_made_again(databases: Databases, tmp_path: Path) -> None:
    async with equal_tables(databases, tmp_path, ITEMS) as world:
        await world.source.execute("SELECT pg_drop_replication_slot(%s)", (SLOT,))
        await world.target.execute("DELETE FROM alih.stream")
        environment = {
            "ALIH_SOURCE": databases.source,
            "ALIH_TARGET": databases.target,
            "XDG_STATE_HOME": str(tmp_path),
            "PATH": os.defpath,
        }
        argv = [sys.executable, "-c", OPEN, str(tmp_path / "alih.yaml")]
        async with child(argv, log=tmp_path / "open.log", env=environment) as maker:
            assert await maker.wait() == -signal.SIGKILL, (tmp_path / "open.log").read_text(encoding="utf-8")
        orphan: LiteralString = "SELECT confirmed_flush_lsn::text FROM pg_replication_slots"
        ((left,),) = await rows(world.source, orphan)
        assert await rows(world.target, "SELECT FROM alih.stream") == []
        await world.source.execute("INSERT INTO items VALUES (1)")  # it would be in the orphan's log, and in the copy
        await world.engine().open()
        ((made,),) = await rows(world.source, orphan)
        assert await rows(world.target, "SELECT position::text FROM alih.stream") == [(made,)]
        assert made != left
        async with following(world.engine()):
            await world.engine().copy()
            await world.caught_up()
        assert await world.both(ALL) == [(1,)]


async def test_a_slot_that_waits_for_an_open_transaction_says_so(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("alih.postgres.installation._SLOT_WITHIN", "300ms")
    async with equal_tables(databases, tmp_path, ITEMS) as world, connected(databases.source) as writer:
        await world.source.execute("SELECT pg_drop_replication_slot(%s)", (SLOT,))
        await world.target.execute("DELETE FROM alih.stream")
        async with writer.transaction():
            await writer.execute("INSERT INTO items VALUES (1)")
            with pytest.raises(Retryable, match="it waits for a transaction that does not end"):
                await world.engine().open()
        await world.engine().open()


async def test_no_slot_is_free(databases: Databases, tmp_path: Path) -> None:
    async with equal_tables(databases, tmp_path, ITEMS) as world:
        await world.source.execute("SELECT pg_drop_replication_slot(%s)", (SLOT,))
        await world.target.execute("DELETE FROM alih.stream")
        with pytest.raises(psycopg.errors.ConfigurationLimitExceeded):
            await world.source.execute(
                "SELECT pg_create_physical_replication_slot('filler_' || i) FROM generate_series(1, 100) i"
            )
        ((free,),) = await rows(
            world.source,
            "SELECT current_setting('max_replication_slots')::int - count(*) FROM pg_replication_slots",
        )
        await world.source.execute(
            "SELECT pg_create_physical_replication_slot('filler_' || i) FROM generate_series(1, %s) i", (free,)
        )
        try:
            with pytest.raises(NeedsOperator, match="no replication slot is free"):
                await world.engine().open()
        finally:
            await world.source.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name LIKE 'filler%'"
            )


# --- a real failover --------------------------------------------------------------------------------------------


def standby_of(primary: Cluster, path: Path) -> Cluster:
    """A streaming standby of the cluster, not started yet: its base backup, owned by the account that runs servers."""
    (path / "standby").mkdir()
    data = path / "standby" / "data"
    run("pg_basebackup", "-d", primary.dsn(), "-D", str(data), "-R", "--checkpoint=fast", version=primary.version)
    owner = primary.data.stat()
    for place in (data, *data.rglob("*")):
        os.chown(place, owner.st_uid, owner.st_gid)
    return Cluster(path / "standby", primary.version, {"hot_standby": "on"})


@pytest.mark.long
async def test_a_promoted_standby_is_refused_by_name(databases: Databases, tmp_path: Path, pg_version: int) -> None:
    """The stream's address names both servers. The primary goes away, the standby is not taken for it, and when it is
    promoted the stream stops by name: nobody knows what of the old log it has."""
    async with AsyncExitStack() as servers:
        primary = Cluster(tmp_path / "primary", pg_version)
        running = await servers.enter_async_context(AsyncExitStack())
        await running.enter_async_context(primary)
        await primary.create_database("shop")
        standby = await servers.enter_async_context(standby_of(primary, tmp_path))
        given = replace(databases, source=primary.dsn("shop"))
        async with equal_tables(given, tmp_path, ITEMS) as world, asyncio.TaskGroup() as tasks:
            await world.engine().copy()
            stream = tasks.create_task(halted(replace(world.engine(), source=either(primary, standby))))
            await world.source.execute("INSERT INTO items VALUES (1)")
            await world.caught_up()
            await running.aclose()
            async with connected(standby.dsn()) as admin:
                await admin.execute("SELECT pg_promote()")
            async with asyncio.timeout(20):
                stop = await stream
            assert stop.startswith(MOVED)
            assert await rows(world.target, "SELECT state, stopped FROM alih.stream") == [("failed over", stop)]
            assert await rows(world.target, ALL) == [(1,)]


async def halted(engine: Engine) -> str:
    with pytest.raises(NeedsOperator) as stop:
        await engine.follow()
    return str(stop.value)


def either(primary: Cluster, standby: Cluster) -> str:
    """Whichever of the two is the primary."""
    hosts = [conninfo_to_dict(cluster.dsn())["host"] for cluster in (primary, standby)]
    where = f"{hosts[0]},{hosts[1]}"
    return make_conninfo(primary.dsn("shop"), host=where, port="5432,5432", target_session_attrs="primary")
