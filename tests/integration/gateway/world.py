"""Back ends for the gateway's tests: real servers on loopback that remember what they were asked, and for how long."""

import asyncio
import re
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp
from aiohttp import web

from alih.gateway.bootstrap import Addresses, bootstrap
from alih.gateway.envoy import Envoy
from alih.gateway.gate import Gate, Limits
from alih.gateway.routes import IdForm
from alih.gateway.wire import application, listening
from alih.model.contract import Gateway
from alih.model.side import Side


@dataclass(eq=False)
class Execution:
    """One request as a back end has worked on it."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: bytes
    began: float
    ended: float | None = None

    def header(self, name: str) -> str | None:
        return next((v for n, v in self.headers if n.lower() == name.lower()), None)


Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(eq=False)
class BackEnd:
    """A back end named `name`. While `working` is clear, requests that have come in are not answered."""

    name: str
    answering: Answering | None = None
    executions: list[Execution] = field(default_factory=list)
    working: asyncio.Event = field(default_factory=asyncio.Event)
    takes_s: Callable[[], float] | None = None
    address: str = ""

    @property
    def running(self) -> int:
        return sum(e.ended is None for e in self.executions)

    @property
    def paths(self) -> list[str]:
        return [e.path for e in self.executions]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = [(n.decode(), v.decode()) for n, v in request.raw_headers]
        execution = Execution(request.method, request.raw_path, headers, body, time.monotonic())
        self.executions.append(execution)
        nth = len(self.executions)
        try:
            await self.working.wait()
            if self.takes_s is not None:
                await asyncio.sleep(self.takes_s())  # the work of a back end
            if self.answering is not None:
                return await self.answering(request)
            return web.json_response({"side": self.name, "nth": nth})
        finally:
            execution.ended = time.monotonic()


@asynccontextmanager
async def back_end(name: str, answering: Answering | None = None) -> AsyncIterator[BackEnd]:
    served = BackEnd(name, answering)
    served.working.set()
    async with listening(application(served.handle, 16 * 1024 * 1024), "127.0.0.1", 0, grace_s=1.0) as served.address:
        try:
            yield served
        finally:
            served.working.set()


@asynccontextmanager
async def raw_back_end(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """A server that says what HTTP servers should not; gives its address."""

    async def met(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(met, "127.0.0.1", 0)
    async with server:
        host, port = server.sockets[0].getsockname()
        yield f"{host}:{port}"


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


@dataclass
class Owners:
    """The owner rows. `reading`, if set, is awaited before each answer."""

    rows: dict[str, Side | None] = field(default_factory=dict)
    broken: bool = False
    reading: Callable[[], Awaitable[None]] | None = None
    barrier_passed: int = 0
    barrier: Callable[[], Awaitable[None]] | None = None

    async def of(self, tenant: str) -> Side | None:
        side = self.rows.get(tenant)
        if self.reading is not None:
            await self.reading()
        if self.broken:
            raise ConnectionError("the control database is away")
        return side

    async def past_barrier(self) -> None:
        if self.barrier is not None:
            await self.barrier()
        self.barrier_passed += 1


@dataclass
class GateWorld:
    """A gate before two back ends, and a client."""

    gate: Gate
    address: str
    source: BackEnd
    target: BackEnd
    owners: Owners
    client: aiohttp.ClientSession

    def url(self, path: str) -> str:
        return f"http://{self.address}{path}"

    async def ask(self, tenant: str, path: str = "/", method: str = "GET", **headers: str) -> tuple[int, str]:
        sent = {"x-alih-tenant": tenant} | {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.client.request(method, self.url(path), headers=sent) as answer:
            return answer.status, await answer.text()


@asynccontextmanager
async def gate_world(limits: Limits | None = None, source_address: str | None = None) -> AsyncIterator[GateWorld]:
    owners = Owners({"17": Side.SOURCE})
    async with back_end("source") as source, back_end("target") as target:
        gate = Gate(
            owner_of=owners.of,
            upstreams={Side.SOURCE: source_address or source.address, Side.TARGET: target.address},
            barrier=owners.past_barrier,
            limits=limits or Limits(grace_s=1.0),
        )
        async with gate.serving() as address, aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
            yield GateWorld(gate, address, source, target, owners, client)


@dataclass
class Shop:
    """A whole gateway: Envoy before front, source, target and gate."""

    envoy: Envoy
    port: int
    front: BackEnd
    source: BackEnd
    target: BackEnd
    gate: BackEnd

    async def talk(self, head: str) -> bytes:
        """Send the bytes of a request and return those of the answer."""
        async with asyncio.timeout(20):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(head.encode())
            answer = await reader.readuntil(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", answer, re.IGNORECASE)
            answer += await reader.readexactly(int(length[1])) if length else b""
            writer.close()
        return answer

    async def get(self, path: str, *headers: str) -> bytes:
        lines = (f"GET {path} HTTP/1.1", "Host: Shop.Example", *headers, "Connection: close", "", "")
        return await self.talk("\r\n".join(lines))

    async def reached(self, path: str, *headers: str) -> str:
        """The name of the back end that the request has come to, or the status with which Envoy refused it."""
        before = {b.name: len(b.executions) for b in self.back_ends}
        answer = await self.get(path, *headers)
        met = [b.name for b in self.back_ends if len(b.executions) > before[b.name]]
        return met[0] if met else answer.split(b" ")[1].decode()

    @property
    def back_ends(self) -> tuple[BackEnd, ...]:
        return self.front, self.source, self.target, self.gate


@asynccontextmanager
async def shop(directory: Path, ids: IdForm = IdForm.INTEGER) -> AsyncIterator[Shop]:
    port = free_port()
    async with (
        back_end("front") as front,
        back_end("source") as source,
        back_end("target") as target,
        back_end("gate") as gate,
    ):
        gateway = Gateway(
            listen=f"127.0.0.1:{port}",
            front=front.address,
            source=source.address,
            target="127.0.0.1:1",
            tenant_path="/api/shops/{shop_id}",
            shared_paths=("/api/me",),
            request_max_ms=2000,
        )
        config = bootstrap(
            gateway, directory=directory, addresses=Addresses(adapter=target.address, gate=gate.address), ids=ids
        )
        async with Envoy(directory, config) as envoy:
            yield Shop(envoy, port, front, source, target, gate)
