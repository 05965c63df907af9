"""What goes wrong around alih: a clear message with a remedy, the exit code of its kind, nothing left running, nothing
lost, a second run that works, and no secret anywhere."""

import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest

from tests.integration.gateway.world import free_port
from tests.support.alih_command import PASSWORD, Done, Serving
from tests.support.databases import Databases
from tests.support.small_world import SECRET, Connection, SmallWorld, small_world
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

READY = "ready: 5 tenants verified"
STOPPED = "stopped; nothing is lost, the same command goes on from here\n"


@pytest.fixture
async def world(databases: Databases) -> AsyncIterator[SmallWorld]:
    """Afterwards nothing of alih runs, and nothing that it has written anywhere holds a secret."""
    async with small_world(databases, f"127.0.0.1:{free_port()}") as world:
        yield world
        await nothing_runs(world)
        assert [path for path, text in world.command.written().items() if PASSWORD in text or SECRET in text] == []


async def nothing_runs(world: SmallWorld) -> None:
    """The guardians of a killed parent need a moment."""
    await until(lambda: world.command.children() == [], within_s=20)


async def there(connection: Connection, query: LiteralString) -> object:
    ((value,),) = await (await connection.execute(query)).fetchall()
    return value


async def in_phase(world: SmallWorld, phase: str) -> None:
    async with await psycopg.AsyncConnection.connect(world.databases.control, autocommit=True) as control:

        async def reached() -> bool:
            return await there(control, "SELECT phase FROM alih_control.tenant WHERE tenant = '1'") == phase

        await until(reached, within_s=20)


async def owner_at_source(world: SmallWorld) -> object:
    return await there(world.source, "SELECT side || ' ' || epoch FROM alih.owner WHERE tenant = '1'")


def first_line(done: Done) -> tuple[int, str]:
    return done.code, done.err.splitlines()[0]


# --- before anything has begun ----------------------------------------------------------------------------------


async def test_a_contract_with_errors_names_each_with_its_line(world: SmallWorld) -> None:
    contract = world.command.contract
    text = contract.read_text().replace("purpose: sell", "purpse: sell")
    contract.write_text(text.replace("{from: name, data: general}", "nickname"))
    for arguments in (("serve",), ("cutover", "first")):
        done = await world.command.run(*arguments)
        assert (done.code, "alih.yaml:" in done.err, "→" in done.err) == (64, True, True), done
    assert await there(world.source, "SELECT count(*) FROM pg_namespace WHERE nspname = 'alih'") == 0


async def test_a_contract_that_is_not_there(world: SmallWorld) -> None:
    world.command.contract.unlink()
    done = await world.command.run("serve")
    assert (done.code, "alih.yaml" in done.err, "→" in done.err) == (64, True, True), done


@pytest.mark.parametrize("side", ["source", "target", "control"])
async def test_a_database_that_is_down(world: SmallWorld, side: str) -> None:
    gone = f"host=127.0.0.1 port={free_port()} dbname=shop user=postgres password={PASSWORD}"
    world.command.variables = dict(world.command.variables) | {f"ALIH_{side.upper()}": gone}
    done = await world.command.run("serve")
    assert (done.code, done.err.startswith(f"the {side} database does not answer: ")) == (75, True), done
    assert done.err.splitlines()[-1] == (
        "  → check that the server runs and that the DSN in alih.yaml names it, then run again"
    )


async def test_a_database_that_refuses(world: SmallWorld) -> None:
    refused = world.databases.source.replace("user=postgres", f"user=nobody_here password={PASSWORD}")
    world.command.variables = dict(world.command.variables) | {"ALIH_SOURCE": refused}
    done = await world.command.run("serve")
    assert (done.code, "nobody_here" in done.err, "→" in done.err) == (69, True, True), done


async def test_commands_that_alih_serve_has_to_carry_out_say_that_it_does_not_run(world: SmallWorld) -> None:
    assert first_line(await world.command.run("cutover", "first")) == (69, "alih serve is not running")
    assert (await world.command.run("status", "--json")).document["streams"] == {}


# --- around a running alih serve --------------------------------------------------------------------------------


async def test_a_busy_port_a_second_serve_and_a_wrong_cohort(world: SmallWorld) -> None:
    host, _, port = world.gateway.rpartition(":")
    with socket.create_server((host, int(port))):
        done = await world.command.run("serve")
        assert first_line(done) == (69, f"{world.gateway} is taken by another program")
        assert done.err.splitlines()[1] == "  → stop that program, or give `gateway.listen` another port"
        await nothing_runs(world)
    async with world.command.started("serve") as serve:
        await serve.says(READY)
        assert first_line(await world.command.run("serve")) == (69, "another alih serve runs this migration")
        assert first_line(await world.command.run("clean")) == (69, "alih serve runs this migration")
        assert first_line(await world.command.run("cutover", "tenth")) == (64, "cohort tenth has no tenants")
        assert await world.sides_of("1", 2) == {"source": 2}
        stopped = await serve.ends(signal.SIGTERM)
        assert (stopped.code, stopped.err) == (130, STOPPED)


async def test_ctrl_c_during_the_copy_then_a_control_database_that_goes_away(world: SmallWorld) -> None:
    async with world.command.started("serve") as serve:
        async with await psycopg.AsyncConnection.connect(world.databases.target) as blocker:
            await until(lambda: installed(world), within_s=30)
            await blocker.execute("LOCK TABLE orders IN SHARE MODE")
            await until(lambda: copy_waits(world), within_s=30)
            assert await world.sides_of("1", 2) == {"source": 2}  # the shop is open meanwhile
            stopped = await serve.ends(signal.SIGINT)
        assert (stopped.code, stopped.err) == (130, STOPPED)
    await nothing_runs(world)
    async with world.command.started("serve") as again:
        await again.says(READY)
        await world.equal()
        async with await psycopg.AsyncConnection.connect(world.databases.control, autocommit=True) as control:
            await control.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        lost = await again.ends()
        assert first_line(lost) == (75, "the control database: the connection was lost")


async def installed(world: SmallWorld) -> bool:
    """The reverse stream's slot is what is made last, before anything is copied."""
    return (
        await there(world.target, "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()") == 1
    )


async def copy_waits(world: SmallWorld) -> bool:
    waiting: LiteralString = (
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'COPY%'"
    )
    return await there(world.target, waiting) == 1


async def test_ctrl_c_during_a_hold_then_kill_9_behind_the_fence(world: SmallWorld) -> None:
    async with world.command.started("serve") as serve:
        await serve.says(READY)
        await interrupted_while_a_writer_holds_the_fence_off(world, serve)
    await nothing_runs(world)
    async with world.command.started("serve") as serve:
        await serve.says(READY)
        assert await world.sides_of("1", 2) == {"source": 2}
        await killed_between_fence_and_flip(world, serve)
    await nothing_runs(world)
    async with world.command.started("serve") as serve:
        await serve.says(READY)
        assert await world.sides_of("1", 2) == {"source": 2}
        assert (await world.command.run("cutover", "first")).code == 0
        assert await world.sides_of("1", 2) == {"target": 2}
        await world.equal()
        assert (await serve.ends(signal.SIGINT)).code == 130
    assert world.failed == []


async def interrupted_while_a_writer_holds_the_fence_off(world: SmallWorld, serve: Serving) -> None:
    async with await psycopg.AsyncConnection.connect(world.databases.source, user="shop_app") as job:
        await job.execute("INSERT INTO orders (order_id, shop_id, note) VALUES (999, 1, 'job')")
        async with world.command.started("cutover", "first") as cutover:
            await in_phase(world, "drained")
            stopped = await serve.ends(signal.SIGINT)
            assert (stopped.code, stopped.err) == (130, STOPPED)
            assert first_line(await cutover.ends()) == (75, "alih serve ended before it answered")
        assert await owner_at_source(world) == "source 0"
        await in_phase(world, "verified")
        await job.commit()


async def killed_between_fence_and_flip(world: SmallWorld, serve: Serving) -> None:
    """Nothing is applied from the moment on at which the fence is waited for, so the tenant stays behind it."""
    async with (
        await psycopg.AsyncConnection.connect(world.databases.source, user="shop_app") as job,
        await psycopg.AsyncConnection.connect(world.databases.target) as blocker,
    ):
        await job.execute("UPDATE orders SET note = note WHERE shop_id = 1")
        async with world.command.started("cutover", "first") as cutover:
            await in_phase(world, "drained")
            await blocker.execute("SELECT FROM alih.stream WHERE direction = 'forward' FOR UPDATE")
            await job.rollback()
            await in_phase(world, "fenced")
            assert (await serve.ends(signal.SIGKILL)).code == -signal.SIGKILL
            assert first_line(await cutover.ends()) == (75, "alih serve ended before it answered")
    assert await owner_at_source(world) == "target 3"
    await nothing_runs(world)


# --- embedded parts ---------------------------------------------------------------------------------------------


async def test_an_embedded_control_database_ends_with_a_killed_alih_serve(world: SmallWorld) -> None:
    contract = world.command.contract
    contract.write_text(contract.read_text().replace("control: {dsn: $ALIH_CONTROL}", "control: {embedded: true}"))
    async with world.command.started("serve") as serve:
        await serve.says(READY)
        (pid_file,) = world.command.directory.rglob("postmaster.pid")
        postmaster = Path("/proc") / pid_file.read_text().splitlines()[0]
        assert (postmaster / "comm").read_text().startswith("postgres")
        assert (await serve.ends(signal.SIGKILL)).code == -signal.SIGKILL
    await until(lambda: not postmaster.exists(), within_s=20)
