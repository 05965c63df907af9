"""What was kept reaches the owner of that moment: in order, through holds and flips, until it is taken."""

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial

import aiohttp
import pytest

from alih.errors import Retryable
from alih.model.side import Side
from alih.postgres.custody import WINDOW, alone, still_alone
from alih.postgres.session import Connection, connect
from tests.support import custody_world as support
from tests.support.custody_world import TENANT, CustodyWorld, custody_world, notices_of, told
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


async def _taken(w: CustodyWorld, count: int, within_s: float = 15.0) -> None:
    def all_delivered() -> bool:
        return w.rows("SELECT count(delivered_at) FROM alih_control.notice") == [(count,)]

    await until(all_delivered, within_s)


async def test_a_notice_is_delivered_once_as_it_came_and_its_side_is_kept(control_database: str) -> None:
    async with custody_world(control_database) as w:
        w.owners["18"] = Side.TARGET
        for _ in range(3):
            await w.post(told("ORDER-1"))
        await w.post(told("ORDER-2"), "18")
        async with w.delivering():
            await _taken(w, 2)
            await w.post(told("ORDER-1"))
        assert w.source.arrived == [("ORDER-1", "settlement")]
        assert w.target.arrived == [("ORDER-2", "settlement")]
        assert w.source.paths == {notices_of("17")}
        assert w.rows("SELECT reference, side, repeated, attempts FROM alih_control.notice ORDER BY id") == [
            ("ORDER-1", "source", 3, 1),
            ("ORDER-2", "target", 0, 1),
        ]


async def test_each_charge_keeps_its_order_while_another_is_stuck(control_database: str) -> None:
    states = ("pending", "settlement", "partial_refund", "refund")
    async with custody_world(control_database) as w:
        w.source.stuck["ORDER-0"] = asyncio.Event()
        w.source.status["ORDER-1"] = 500
        for state in states:
            for n in range(12):
                await w.post(told(f"ORDER-{n}", state))
        async with w.delivering():
            await _taken(w, 40)
            assert w.source.references.count("ORDER-0") == 1
            assert {state for reference, state in w.source.arrived if reference == "ORDER-1"} == {"pending"}
            w.source.stuck["ORDER-0"].set()
            w.source.status.clear()
            await _taken(w, 48)
        for n in range(12):
            told_of = [state for reference, state in w.source.arrived if reference == f"ORDER-{n}"]
            assert list(dict.fromkeys(told_of)) == list(states)
            assert n == 1 or len(told_of) == 4
        assert w.source.most_at_work == 1


async def test_a_shop_whose_back_end_hangs_does_not_keep_others_waiting(control_database: str) -> None:
    async with custody_world(control_database) as w:
        for n in range(40):
            w.source.stuck[f"HUNG-{n}"] = asyncio.Event()
            await w.post(told(f"HUNG-{n}"))
        await w.post(told("ORDER-1"), "18")
        async with w.delivering():
            await _taken(w, 1)
            for hung in w.source.stuck.values():
                hung.set()
            await _taken(w, 41)


async def test_while_a_tenant_is_held_its_notice_waits_and_then_goes_to_the_new_owner(control_database: str) -> None:
    async with custody_world(control_database) as w:
        w.gate.track(TENANT)
        w.gate.hold(TENANT)
        await w.post(told("ORDER-1"))
        async with w.delivering():

            async def tried() -> bool:
                return bool(w.rows("SELECT FROM alih_control.notice WHERE attempts >= 1"))

            await until(tried)  # held for longer than the gate waits: put off, and offered again
            assert await w.gate.drained(TENANT, 5.0)
            w.owners[TENANT] = Side.TARGET
            w.gate.release(TENANT)
            await _taken(w, 1)
        assert (w.source.arrived, w.target.arrived) == ([], [("ORDER-1", "settlement")])
        assert w.rows("SELECT side FROM alih_control.notice") == [("target",)]


async def test_whatever_is_no_success_is_offered_again(control_database: str) -> None:
    statuses = {"MOVED": 302, "UNKNOWN": 404, "REFUSED": 409, "BROKEN": 500}
    async with custody_world(control_database) as w:
        w.source.status |= statuses
        w.source.location = "/elsewhere"  # where all is well; but an answer that sends us away has taken nothing
        for reference in statuses:
            await w.post(told(reference))
        async with w.delivering():
            await until(lambda: min(map(w.source.references.count, statuses)) >= 3)
            assert (await w.custody.totals())["delivered"] == 0
            w.source.status.clear()
            await _taken(w, 4)
        attempts = dict(w.rows("SELECT reference, attempts FROM alih_control.notice"))
        assert attempts == {reference: w.source.references.count(reference) for reference in statuses}


async def test_what_is_never_taken_is_a_finding_and_the_next_one_goes_on(control_database: str) -> None:
    async with custody_world(control_database) as w:
        w.source.status["ORDER-1"] = 409
        await w.post(told("ORDER-1", "pending"))
        assert timedelta(hours=24) == WINDOW
        w.do("UPDATE alih_control.notice SET received_at = received_at - interval '24 h'")
        await w.post(told("ORDER-1"))
        async with w.delivering():

            async def given_up() -> bool:
                return (await w.custody.totals())["undelivered"] == 1

            await until(given_up)
            w.source.status.clear()
            await _taken(w, 1)
        what = "a payment notice was never taken by the shop's owner"
        assert w.entries("finding") == [{"source": "custody", "what": what, "tenant": "17", "sale": "@reference"}]
        text = json.dumps(w.entries("finding"))
        assert "ORDER-1" not in text
        assert w.source.arrived[-1] == ("ORDER-1", "settlement")
        assert w.rows(
            "SELECT given_up_at IS NOT NULL, delivered_at IS NOT NULL FROM alih_control.notice ORDER BY id"
        ) == [
            (True, False),
            (False, True),
        ]


async def test_delivery_survives_the_loss_of_the_control_database(
    control_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What could not be recorded is offered once more."""
    async with custody_world(control_database) as w:
        for n in range(6):
            w.source.stuck[f"ORDER-{n}"] = asyncio.Event()
            await w.post(told(f"ORDER-{n}"), TENANT if n % 2 else "18")
        async with w.delivering():
            await until(lambda: len(w.source.arrived) == 6)
            with w.away():
                for waiting in w.source.stuck.values():
                    waiting.set()
                await until(lambda: caplog.text.count("delivery.not_recorded") == 6)
            await _taken(w, 6)
        assert {w.source.references.count(f"ORDER-{n}") for n in range(6)} == {2}
        assert w.source.most_at_work == 1


async def test_one_process_delivers_and_stops_when_it_may_no_longer(control_database: str) -> None:
    async with (
        custody_world(control_database) as w,
        await connect(w.dsn, "the control database") as first,
        await connect(w.dsn, "the control database") as second,
        asyncio.TaskGroup() as tasks,
    ):
        await alone(first)
        waiting = tasks.create_task(alone(second))
        leading = tasks.create_task(_until_lost(first))

        def blocked() -> bool:
            return w.rows("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted") == [(1,)]

        await until(blocked)
        w.do(f"SELECT pg_terminate_backend({first.info.backend_pid:d})")
        await until(leading.done)
        assert not waiting.done()  # the first one has stopped before the second one begins
        await until(waiting.done)


async def _until_lost(connection: Connection) -> None:
    with pytest.raises(Retryable):
        await still_alone(connection)


@pytest.mark.parametrize(("many", "kills"), [(300, 2), pytest.param(2_000, 4, marks=pytest.mark.long)])
async def test_a_killed_custody_loses_nothing_that_it_has_answered(
    control_database: str, many: int, kills: int
) -> None:
    """kill -9 among so many notices: each that was answered 200 reaches the owner, who knows what it has done and does
    each once."""
    address = f"127.0.0.1:{_free_port()}"
    async with custody_world(control_database) as w:
        answered: set[str] = set()
        async with asyncio.TaskGroup() as tasks:
            provider = tasks.create_task(_posted(w.client, address, many, answered))
            for part in range(1, kills + 1):
                async with _process(w, address) as process:
                    await until(partial(_reached, answered, part * many // (kills + 1)), 30.0)
                    process.kill()
            async with _process(w, address):
                await provider
                await until(lambda: len(set(w.source.references)) == many, 60.0)
                await _taken(w, many)
        assert len(answered) == many
        assert set(w.source.references) == answered
        # Only what was under way at a kill may have been offered twice: 4 of a tenant at once.
        assert many <= len(w.source.references) <= many + 4 * kills
        assert w.source.most_at_work <= 2


def _reached(answered: set[str], count: int) -> bool:
    return len(answered) >= count


async def _posted(client: aiohttp.ClientSession, address: str, many: int, answered: set[str]) -> None:
    """Post each as a provider does: until it has read a 200."""
    turn = asyncio.Semaphore(10)

    async def told_once(reference: str) -> bool:
        url, headers = f"http://{address}{notices_of(TENANT)}", {"x-alih-tenant": TENANT}
        try:
            async with client.post(url, data=told(reference), headers=headers) as answer:
                return answer.status == 200
        except aiohttp.ClientError:
            return False

    async def insist(reference: str) -> None:
        async with turn:
            await until(lambda: told_once(reference), 60.0)
            answered.add(reference)

    async with asyncio.TaskGroup() as tasks:
        for n in range(many):
            tasks.create_task(insist(f"ORDER-{n}"))


@asynccontextmanager
async def _process(w: CustodyWorld, address: str) -> AsyncIterator[asyncio.subprocess.Process]:
    argv = (sys.executable, support.__file__, w.dsn, w.gate_address, address)
    process = await asyncio.create_subprocess_exec(*argv)
    try:
        await until(lambda: _listens(address) or process.returncode is not None)
        assert process.returncode is None
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port
