"""Envoy routes by tenant, changes tables without a request lost, and leaves no trace of itself."""

import asyncio
import json
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from alih.errors import Corrupt
from alih.gateway.bootstrap import Addresses, bootstrap
from alih.gateway.envoy import Envoy
from alih.gateway.routes import ROUTE_FILE, Destination, IdForm, route_table
from alih.model.contract import Gateway
from tests.integration.gateway.world import back_end, free_port, raw_back_end, shop
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

SOURCE, TARGET, GATE = Destination.SOURCE, Destination.TARGET, Destination.GATE


async def test_each_tenant_reaches_its_own_side(tmp_path: Path) -> None:
    async with shop(tmp_path) as s:
        await s.envoy.publish(route_table(1, SOURCE, {"17": TARGET, "18": GATE, "@shared": GATE}))
        reached = {
            path: await s.reached(path)
            for path in (
                *("/", "/p/a%20b", "/api/mex", "/api/shops", "/api/shops/", "/static/x.css?shop=/api/shops/17"),
                *("/api/shops/17", "/api/shops/17/orders/9?x=%2F..", "/api/shops/17/products/a%2Fb", "/api/shops/17/"),
                *("/api/shops/18/cart", "/api/shops/19", "/api/shops/170", "/api/me", "/api/me/orders?limit=50"),
            )
        }
    assert reached == {
        **dict.fromkeys(("/", "/p/a%20b", "/api/mex", "/api/shops", "/api/shops/"), "front"),
        "/static/x.css?shop=/api/shops/17": "front",
        "/api/shops/17": "target",
        "/api/shops/17/orders/9?x=%2F..": "target",
        "/api/shops/17/products/a%2Fb": "target",
        "/api/shops/17/": "target",
        "/api/shops/18/cart": "gate",
        "/api/shops/19": "source",
        "/api/shops/170": "source",
        "/api/me": "gate",
        "/api/me/orders?limit=50": "gate",
    }


_DOUBTFUL = (
    *("/api/shops/%31%37", "/api/%73hops/17", "/api/shops%2F17", "//api/shops/17", "/api//shops/17"),
    *("/x/../api/shops/17", "/api/./shops/17", "/api/shops/18/../17", "/api/shops/17/../../me", "/API/Shops/17"),
    *("/api;a=1/shops/17", "/api\\shops\\17", "/api/x%252f..%252fshops/17", "/api/shops/17;v=1", "/api/%6De"),
    *("/api/shops/017", "/api/shops/-1", "/api/shops/+17", "/api/shops/1e1", "/api/shops/1_7", "/api/shops/17%00"),
    *("/api/shops/17.0", "/api/shops/@shared", "/api/shops/*", "/api/shops/%D9%A1%D9%A7", "/api/shops/17%20"),
    *("/api/shops/99999999999999999999", "/api/shops/-", "/%61pi/%2573hops/17", "/api/shops/17/%2e%2e/18"),
)


async def test_doubtful_spellings_are_refused_and_reach_nobody(tmp_path: Path) -> None:
    async with shop(tmp_path) as s:
        await s.envoy.publish(route_table(1, SOURCE, {"17": TARGET}))
        reached = {path: await s.reached(path) for path in _DOUBTFUL}
    assert reached == dict.fromkeys(_DOUBTFUL, "400")


async def test_text_ids_are_read_without_regard_to_case(tmp_path: Path) -> None:
    async with shop(tmp_path, IdForm.TEXT) as s:
        await s.envoy.publish(route_table(1, SOURCE, {"Toko-A": TARGET}))
        reached = [await s.reached(f"/api/shops/{i}") for i in ("Toko-A", "toko-a", "TOKO-A", "toko-b", "toko%2Da")]
    assert reached == ["target", "target", "target", "source", "400"]


async def test_a_client_cannot_name_its_tenant_or_order_envoy_about(tmp_path: Path) -> None:
    async with shop(tmp_path) as s:
        await s.envoy.publish(route_table(1, SOURCE, {"17": TARGET}))
        forged = ("x-alih-tenant: 17", "X-Alih-Tenant: -", "x-envoy-retry-on: 5xx", "X-Envoy-Upstream-Rq-Timeout-Ms: 1")
        assert await s.reached("/api/shops/18", *forged) == "source"
        assert await s.reached("/", *forged) == "front"
        seen = s.source.executions[0].headers + s.front.executions[0].headers
    assert [n for n, _ in seen if n.lower().startswith("x-")] == []


async def test_the_gate_alone_is_told_the_tenant(tmp_path: Path) -> None:
    async with shop(tmp_path) as s:
        await s.envoy.publish(route_table(1, SOURCE, {"17": GATE, "@shared": GATE}))
        await s.get("/api/shops/17", "x-alih-tenant: 18")
        await s.get("/api/me")
    assert [e.header("x-alih-tenant") for e in s.gate.executions] == ["17", "@shared"]


async def test_request_and_answer_pass_byte_by_byte_but_for_the_name_of_the_server(tmp_path: Path) -> None:
    asked: list[bytes] = []
    answer = b"HTTP/1.1 302 Found\r\nLocation: /#/a%20b\r\nX-CaSe: Y\r\nDate: then\r\nContent-Length: 2\r\n"

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await _head(reader):
            asked.append(head)
            writer.write(answer + b"Server: legacy/1\r\n\r\nok")

    request = "GET /api/shops/19?q=%20A HTTP/1.1\r\nHost: Shop.Example\r\nX-Buyer-Id: 7\r\nX-Forwarded-For: 9.9.9.9\r\n"
    async with raw_back_end(talk) as address, _envoy_before(address, tmp_path) as (envoy, port):
        await envoy.publish(route_table(1, SOURCE, {}))
        got = await _talk(port, request + "Connection: close\r\n\r\n")
        proto = await _talk(port, request + "X-Forwarded-Proto: https\r\nConnection: close\r\n\r\n")
    assert got == proto == answer + b"connection: close\r\n\r\nok"
    assert asked == [f"{request}\r\n".encode(), f"{request}X-Forwarded-Proto: https\r\n\r\n".encode()]


async def test_before_the_first_table_everybody_is_asked_to_come_back(tmp_path: Path) -> None:
    async with shop(tmp_path) as s:
        answers = [await s.get("/api/shops/17"), await s.get("/")]
        assert [a.split(b"\r\n")[0] for a in answers] == [b"HTTP/1.1 503 Service Unavailable"] * 2
        assert b"retry-after: 1" in answers[0]
        assert [b.executions for b in s.back_ends] == [[], [], [], []]


async def test_publish_returns_when_every_worker_serves_the_table(tmp_path: Path) -> None:
    async with shop(tmp_path) as s, aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:

        async def side(n: int) -> str:
            async with client.get(f"http://127.0.0.1:{s.port}/api/shops/17?{n}") as answer:
                name: str = (await answer.json())["side"]
                return name

        for version in range(1, 11):
            where = TARGET if version % 2 else SOURCE
            await s.envoy.publish(route_table(version, SOURCE, {"17": where}))
            assert s.envoy.version == str(version)
            async with asyncio.TaskGroup() as many:
                asking = [many.create_task(side(n)) for n in range(20)]
            assert {task.result() for task in asking} == {where.value}


async def test_the_same_routes_under_a_new_version_are_served_too(tmp_path: Path) -> None:
    async with shop(tmp_path) as s:
        await s.envoy.publish(route_table(1, SOURCE, {"17": TARGET}))
        await s.envoy.publish(route_table(2, SOURCE, {"17": TARGET}))
        assert s.envoy.version == "2"


async def test_a_refused_table_changes_nothing(tmp_path: Path) -> None:
    async with shop(tmp_path) as s:
        good = route_table(1, SOURCE, {"17": TARGET})
        await s.envoy.publish(good)
        bad = json.loads(json.dumps(route_table(2, SOURCE, {"17": GATE})))
        bad["resources"][0]["virtual_hosts"].append({"name": "again", "domains": ["17"]})
        with pytest.raises(Corrupt, match="refused route table 2 and serves 1"):
            await s.envoy.publish(bad)
        assert s.envoy.version == "1"
        assert json.loads((tmp_path / ROUTE_FILE).read_text()) == good
        assert await s.reached("/api/shops/17") == "target"
        await s.envoy.publish(route_table(3, SOURCE, {"17": GATE}))
        assert await s.reached("/api/shops/17") == "gate"


async def test_a_restarted_envoy_serves_the_table_that_it_finds(tmp_path: Path) -> None:
    async with shop(tmp_path) as first:
        await first.envoy.publish(route_table(4, SOURCE, {"17": TARGET}))
    async with shop(tmp_path) as second:
        assert await second.reached("/api/shops/17") == "target"


async def test_a_planned_stop_lets_running_requests_end(tmp_path: Path) -> None:
    request = "GET /api/shops/1 HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    async with back_end("source") as source, asyncio.TaskGroup() as beside:
        source.working.clear()
        async with _envoy_before(source.address, tmp_path) as (envoy, port):
            await envoy.publish(route_table(1, SOURCE, {}))
            asking = beside.create_task(_talk(port, request))
            await until(lambda: source.running == 1)
            # Well after the stop has begun, and within its patience.
            asyncio.get_running_loop().call_later(1.5, source.working.set)
    assert asking.result().endswith(b'{"side": "source", "nth": 1}')


async def test_files_and_admin_are_private_and_the_log_stays_empty(tmp_path: Path) -> None:
    async with shop(tmp_path / "gw") as s:
        await s.envoy.publish(route_table(1, SOURCE, {"17": TARGET}))
        for path in ("/api/shops/17?secret=s3cret", "/api/shops/017"):
            await s.get(path, "Cookie: s3cret")
        modes = {p.suffix: stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "gw").iterdir()}
        assert stat.S_IMODE((tmp_path / "gw").stat().st_mode) == 0o700
    assert modes == {".log": 0o600, ".json": 0o600, ".sock": 0o600}
    assert sorted(p.name for p in (tmp_path / "gw").iterdir()) == ["envoy.log", ROUTE_FILE]
    assert (tmp_path / "gw" / "envoy.log").read_bytes() == b""


async def test_a_back_end_that_is_away_gives_one_503(tmp_path: Path) -> None:
    async with _envoy_before(f"127.0.0.1:{free_port()}", tmp_path) as (envoy, port):
        await envoy.publish(route_table(1, SOURCE, {}))
        got = await _talk(
            port, "POST /api/shops/1 HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        )
    assert got.startswith(b"HTTP/1.1 503 ")


async def test_no_post_is_tried_twice(tmp_path: Path) -> None:
    asked = []

    async def talk(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        asked.append(await _head(reader))

    async with raw_back_end(talk) as address, _envoy_before(address, tmp_path) as (envoy, port):
        await envoy.publish(route_table(1, SOURCE, {}))
        await _talk(
            port,
            "POST /api/shops/1 HTTP/1.1\r\nHost: h\r\nx-envoy-retry-on: 5xx,reset\r\nx-envoy-max-retries: 3\r\n"
            "X-Forwarded-For: 10.0.0.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        )
    assert len(asked) == 1


@asynccontextmanager
async def _envoy_before(source: str, directory: Path) -> AsyncIterator[tuple[Envoy, int]]:
    port = free_port()
    gateway = Gateway(
        listen=f"127.0.0.1:{port}",
        front=source,
        source=source,
        target=source,
        tenant_path="/api/shops/{shop_id}",
        shared_paths=(),
        request_max_ms=2000,
    )
    config = bootstrap(
        gateway, directory=directory, addresses=Addresses(adapter=source, gate=source), ids=IdForm.INTEGER
    )
    async with Envoy(directory, config) as envoy:
        yield envoy, port


async def _talk(port: int, head: str) -> bytes:
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head.encode())
        answer = await reader.read()
        writer.close()
    return answer


async def _head(reader: asyncio.StreamReader) -> bytes:
    """The head of the next request; empty when there is none."""
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""
