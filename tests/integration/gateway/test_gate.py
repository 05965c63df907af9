"""The gate holds, counts and lets go exactly, whatever clients and back ends do."""

import asyncio
import io
import logging
from collections import Counter

import aiohttp
import pytest
from aiohttp import web

from alih.errors import Refused, Retryable
from alih.gateway.gate import Gate, Limits
from alih.model.side import SHARED, Side
from tests.integration.gateway.world import GateWorld, free_port, gate_world, raw_back_end
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

QUICK = Limits(hold_s=0.2, barrier_s=0.1, request_max_s=0.3, upstream_s=5.0, grace_s=1.0)


async def test_an_open_tenant_is_forwarded_to_its_owner_unchanged() -> None:
    async def answering(_request: web.Request) -> web.Response:
        headers = [("X-Shop", "a"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Server", "legacy/1")]
        return web.Response(status=201, reason="Made", body=b"\x00made", headers=headers, content_type="a/b")

    async with gate_world() as w:
        w.target.answering = answering
        w.owners.rows["18"] = Side.TARGET
        sent = {"x-alih-tenant": "18", "X-Buyer-Id": "7", "Cookie": "a=" + "x" * 20_000, "Connection": "close, X-Hop"}
        async with w.client.post(w.url("/api/%41"), headers=sent, data=b"body") as got:
            assert (got.status, got.reason, await got.read()) == (201, "Made", b"\x00made")
            names = sorted(n.lower() for n, _ in got.headers.items())
            assert got.headers["Server"] == "legacy/1"
            assert got.headers["x-alih-side"] == "target"  # for the log of sales; Envoy takes it off
            assert got.headers.getall("Set-Cookie") == ["a=1", "b=2"]
        [execution] = w.target.executions
    assert names == [
        "connection",
        "content-length",
        "content-type",
        "date",
        "server",
        "set-cookie",
        "set-cookie",
        "x-alih-side",
        "x-shop",
    ]
    assert (execution.method, execution.body) == ("POST", b"body")
    assert [n for n, _ in execution.headers if n.lower().startswith(("x-", "cook"))] == ["X-Buyer-Id", "Cookie"]


async def test_the_gate_adds_its_side_alone_to_an_answer_and_passes_redirects() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"HEAD"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
        else:
            writer.write(b"HTTP/1.1 302 Found\r\nLocation: /#/x\r\nContent-Length: 0\r\n\r\n")

    async with raw_back_end(talk) as address, gate_world(source_address=address) as w:
        for method, expected in (
            ("GET", b"HTTP/1.1 302 Found\r\nLocation: /#/x\r\nContent-Length: 0\r\n\r\n"),
            ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
        ):
            got = await _talk(w, f"{method} / HTTP/1.1\r\nHost: h\r\nx-alih-tenant: 17\r\nConnection: close\r\n\r\n")
            assert got.replace(b"Connection: close\r\n", b"").replace(b"x-alih-side: source\r\n", b"") == expected


async def test_paths_pass_as_they_were_written() -> None:
    paths = ["/a/../b", "//a", "/%41%2f?q=%20+a", "/%0d%0a", "/a;b=1", "/%zz|{}"]
    async with gate_world() as w:
        for path in paths:
            head = f"GET {path} HTTP/1.1\r\nHost: h\r\nx-alih-tenant: 17\r\nConnection: close\r\n\r\n"
            assert (await _talk(w, head)).startswith(b"HTTP/1.1 200 ")
        assert w.source.paths == paths


async def test_200_held_requests_are_released_exactly_once_each_to_the_new_owner() -> None:
    async with gate_world() as w:
        w.gate.track("17")
        w.gate.hold("17")
        async with asyncio.TaskGroup() as many:
            asking = [many.create_task(w.ask("17", f"/{n}", "POST")) for n in range(200)]
            await until(lambda: _waiting(w) == 200)
            assert await w.gate.drained("17", 0.5)
            w.owners.rows["17"] = Side.TARGET
            w.gate.release("17")
        assert [task.result()[0] for task in asking] == [200] * 200
        assert w.source.executions == []
        assert Counter(w.target.paths) == Counter(f"/{n}" for n in range(200))
        samples = w.gate.take_held_ms()
        assert [tenant for tenant, _ in samples] == ["17"] * 200
        assert 0 < min(ms for _, ms in samples) <= max(ms for _, ms in samples) < 5000
        assert w.gate.take_held_ms() == []


async def test_release_is_staggered_and_a_new_hold_stops_it() -> None:
    async with gate_world() as w:
        w.gate.track("17")
        w.gate.hold("17")
        async with asyncio.TaskGroup() as many:
            asking = [many.create_task(w.ask("17", f"/{n}")) for n in range(100)]
            await until(lambda: _waiting(w) == 100)
            w.gate.release("17")
            w.gate.hold("17")
            assert await w.gate.drained("17", 5.0)
            # The first batch had been called, but came to a closed gate.
            assert w.source.executions == []
            await until(lambda: _waiting(w) == 100)
            w.gate.release("17")
        assert [task.result()[0] for task in asking] == [200] * 100


async def test_drained_waits_for_the_back_end_and_not_for_the_client() -> None:
    async with gate_world() as w:
        w.gate.track("17")
        w.source.working.clear()
        async with asyncio.TaskGroup() as many:
            leaving = [many.create_task(_hang_up_once_running(w, n)) for n in range(20)]
        assert all(task.done() for task in leaving)
        w.gate.hold("17")
        assert (w.gate.in_flight("17"), w.source.running) == (20, 20)
        assert not await w.gate.drained("17", 0.2)
        w.source.working.set()
        assert await w.gate.drained("17", 5.0)
        assert (w.gate.in_flight("17"), w.gate.unclean("17"), w.source.running) == (0, 0, 0)
        assert len(w.source.executions) == 20


async def test_a_held_request_whose_client_has_left_is_never_sent() -> None:
    async with gate_world() as w:
        w.gate.track("17")
        w.gate.hold("17")
        for _ in range(5):
            await _leave_while_held(w)
        async with asyncio.TaskGroup() as group:
            staying = group.create_task(w.ask("17", "/stay"))
            await until(lambda: _waiting(w) == 6)
            w.gate.release("17")
        assert staying.result()[0] == 200
        assert w.source.paths == ["/stay"]
        assert len(w.gate.take_held_ms()) == 1


async def test_a_long_hold_ends_in_503_with_retry_after() -> None:
    async with gate_world(QUICK) as w:
        w.gate.track("17")
        w.gate.hold("17")
        async with w.client.get(w.url("/"), headers={"x-alih-tenant": "17"}) as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        [(tenant, ms)] = w.gate.take_held_ms()
        assert (tenant, 200 <= ms < 1000) == ("17", True)
        w.gate.release("17")
        assert w.source.executions == []
        assert (await w.ask("17"))[0] == 200


@pytest.mark.parametrize("unknown", ["broken", "no row"])
async def test_an_owner_that_cannot_be_read_holds(unknown: str) -> None:
    async with gate_world() as w:
        w.owners.broken = unknown == "broken"
        w.owners.rows["17"] = None if unknown == "no row" else Side.SOURCE
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(w.ask("17"))
            await until(lambda: len(w.gate._passages) == 1)
            assert w.source.executions == []
            w.owners.broken, w.owners.rows["17"] = False, Side.TARGET
        assert asking.result()[0] == 200
        assert (len(w.source.executions), len(w.target.executions)) == (0, 1)
        assert w.gate._passages == {}  # an untracked tenant leaves nothing behind


async def test_an_owner_read_before_a_flip_is_not_believed_after_it() -> None:
    async with gate_world() as w:
        w.gate.track("17")
        read, answered = asyncio.Event(), asyncio.Event()

        async def slowly() -> None:
            read.set()
            await answered.wait()

        w.owners.reading = slowly
        async with asyncio.TaskGroup() as group:
            asking = group.create_task(w.ask("17"))
            await read.wait()
            w.gate.hold("17")
            assert await w.gate.drained("17", 1.0)
            w.owners.rows["17"] = Side.TARGET
            w.gate.release("17")
            answered.set()
        assert asking.result()[0] == 200
        assert (len(w.source.executions), len(w.target.executions)) == (0, 1)


async def test_the_same_attempt_joins_the_one_that_runs() -> None:
    async with gate_world() as w:
        w.source.working.clear()
        async with asyncio.TaskGroup() as many:
            same = [
                many.create_task(w.ask("17", "/o", "POST", Idempotency_Key="k", X_Buyer_Id="7", X_Request_Id=str(n)))
                for n in range(5)
            ]
            others = [
                many.create_task(w.ask("17", "/o", "POST", Idempotency_Key="k", X_Buyer_Id="8")),
                many.create_task(w.ask("17", "/p", "POST", Idempotency_Key="k", X_Buyer_Id="7")),
                many.create_task(w.ask("17", "/o", "POST", Idempotency_Key="l", X_Buyer_Id="7")),
            ]
            await until(lambda: len(w.source.executions) == 4 and w.gate._passages["17"].visitors == 4)
            await until(lambda: sum(len(f._clients) for f in w.gate._flights.values()) == 8)
            w.source.working.set()
        answers = {task.result() for task in same}
        assert len(answers) == 1
        assert len(answers | {task.result() for task in others}) == 4
        assert len(w.source.executions) == 4
        again = await w.ask("17", "/o", "POST", Idempotency_Key="k", X_Buyer_Id="7")
        assert again not in answers  # it has ended: the back end's own memory answers from here on


async def test_a_second_try_keeps_a_held_attempt_alive_whose_first_client_left() -> None:
    async with gate_world() as w:
        w.gate.track("17")
        w.gate.hold("17")
        head = "POST /o HTTP/1.1\r\nHost: h\r\nx-alih-tenant: 17\r\nIdempotency-Key: k\r\nContent-Length: 0\r\n\r\n"
        await _leave_while_held(w, head)
        async with asyncio.TaskGroup() as group:
            second = group.create_task(_talk(w, head, until=b"}"))
            await until(lambda: sum(len(f._clients) for f in w.gate._flights.values()) == 2)
            w.gate.release("17")
        assert second.result().startswith(b"HTTP/1.1 200 OK\r\n")
        assert len(w.source.executions) == 1


async def test_shared_paths_pass_the_barrier_or_get_503() -> None:
    async with gate_world(QUICK) as w:
        w.owners.rows[SHARED] = Side.SOURCE
        assert (await w.ask(SHARED))[0] == 200
        assert w.owners.barrier_passed == 1
        never = asyncio.Event()

        async def stuck() -> None:
            await never.wait()

        async def away() -> None:
            raise Retryable("a database is away", remedy="bring it back")

        for barrier in (stuck, away):
            w.owners.barrier = barrier
            assert (await w.ask(SHARED))[0] == 503
        assert (await w.ask("17"))[0] == 200
        assert len(w.source.executions) == 2


async def test_a_back_end_that_refuses_connections_is_502_and_clean() -> None:
    async with gate_world(source_address=f"127.0.0.1:{free_port()}") as w:
        assert (await w.ask("17", method="PUT"))[0] == 502
        assert (w.gate.in_flight("17"), w.gate.unclean("17")) == (0, 0)


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
@pytest.mark.parametrize("words", [b"", b"HTTP/1.1 200 OK\r\nContent-Le", b"nonsense\r\n\r\n"])
async def test_a_connection_that_breaks_after_sending_is_unclean_for_a_time_and_never_repeated(
    method: str, words: bytes
) -> None:
    asked = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if head.startswith(b"HEAD"):  # a first one, that leaves a kept connection behind
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            head = await reader.readuntil(b"\r\n\r\n")
        asked.append(head)
        writer.write(words)

    async with raw_back_end(talk) as address, gate_world(QUICK, address) as w:
        w.gate.track("17")
        assert (await w.ask("17", method="HEAD"))[0] == 200
        assert (await w.ask("17", method=method))[0] == 502
        assert (w.gate.in_flight("17"), w.gate.unclean("17")) == (0, 1)
        w.gate.hold("17")
        assert not await w.gate.drained("17", 0.01)
        assert await w.gate.drained("17", 2.0)
        assert w.gate.unclean("17") == 0
        assert len(asked) == 1


async def test_half_an_answer_is_passed_on_as_half_an_answer() -> None:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")

    async with raw_back_end(talk) as address, gate_world(QUICK, address) as w:
        w.gate.track("17")
        with pytest.raises(aiohttp.ClientError):
            await w.ask("17")
        assert w.gate.unclean("17") == 1


async def test_what_the_adapter_says_of_the_target_counts_and_stays_inside() -> None:
    async def answering(_request: web.Request) -> web.Response:
        return web.Response(status=502, headers={"x-alih-unclean": "1"})

    async with gate_world() as w:
        w.gate.track("18")
        w.owners.rows["18"] = Side.TARGET
        w.target.answering = answering
        async with w.client.get(w.url("/"), headers={"x-alih-tenant": "18"}) as answer:
            assert (answer.status, "x-alih-unclean" in answer.headers) == (502, False)
        assert w.gate.unclean("18") == 1


async def test_large_bodies_are_refused_and_large_answers_stream() -> None:
    async def answering(_request: web.Request) -> web.Response:
        return web.Response(body=b"x" * 5_000_000)

    async with gate_world() as w:
        w.source.answering = answering
        headers = {"x-alih-tenant": "17"}
        async with w.client.post(w.url("/"), headers=headers, data=io.BytesIO(b"x" * (1024 * 1024 + 1))) as answer:
            assert answer.status == 413
        assert w.source.executions == []
        async with w.client.post(w.url("/"), headers=headers, data=b"x" * 1024 * 1024) as answer:
            assert (answer.status, len(await answer.read())) == (200, 5_000_000)


async def test_the_way_of_a_tenant_has_an_order() -> None:
    async with gate_world() as w:
        for early in (w.gate.hold, w.gate.release):
            with pytest.raises(Refused, match="not tracked"):
                early("17")
        w.gate.track("Toko")
        w.gate.track("Toko")
        with pytest.raises(Refused, match="differ only in case"):
            w.gate.track("TOKO")
        w.owners.rows["Toko"] = Side.SOURCE
        assert (await w.ask("tOkO"))[0] == 200  # Envoy ignores case, so the gate does
        w.gate.forget("Toko")
        assert w.gate._passages == {}
        assert (await w.ask("", "/"))[0] == 400
    with pytest.raises(Refused, match="still run"):
        Gate(owner_of=w.owners.of, upstreams={}, barrier=w.owners.past_barrier, limits=Limits(request_max_s=61.0))


async def test_nothing_of_a_request_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    async with gate_world(source_address=f"127.0.0.1:{free_port()}") as w:
        await _talk(w, "GET /s3cret HTTP/1.1\r\nx-alih-tenant: s3cret\r\ns3cret\r\n\r\n", until=b"\r\n\r\n")
        await _talk(w, "S3CRET /s3cret HTTP/9\r\n\r\n", until=b"\r\n\r\n")
        await w.ask("17", "/s3cret", X_Secret="s3cret")
    assert [r.getMessage() for r in caplog.records if "s3cret" in (r.getMessage() + str(r.exc_info)).lower()] == []


def _waiting(w: GateWorld) -> int:
    passage = w.gate._passages.get("17")
    return 0 if passage is None else len(passage._waiting)


async def _talk(w: GateWorld, head: str, until: bytes | None = None) -> bytes:
    host, port = w.address.split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(head.encode())
    got = await (reader.read() if until is None else reader.readuntil(until))
    writer.close()
    return got


async def _leave_while_held(
    w: GateWorld, head: str = "GET /gone HTTP/1.1\r\nHost: h\r\nx-alih-tenant: 17\r\n\r\n"
) -> None:
    host, port = w.address.split(":")
    before = _waiting(w)
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(head.encode())
    await until(lambda: _waiting(w) == before + 1)
    writer.close()
    await writer.wait_closed()


async def _hang_up_once_running(w: GateWorld, n: int) -> None:
    host, port = w.address.split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(f"POST /{n} HTTP/1.1\r\nHost: h\r\nx-alih-tenant: 17\r\nContent-Length: 0\r\n\r\n".encode())
    await until(lambda: f"/{n}" in w.source.paths)
    writer.close()
    await writer.wait_closed()
