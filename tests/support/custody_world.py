"""Custody and delivery as they stand in `alih custody`, before a gate and two owners; notices signed as Midtrans does.

Run as a module, it is the custody process itself: DSN, address of the gate, address to listen on.
"""

import asyncio
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any

import aiohttp
import psycopg
from aiohttp import web
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from alih.gateway.gate import Gate, Limits
from alih.gateway.wire import application, listening
from alih.model.commerce import Payee
from alih.model.side import Side
from alih.payments.custody import custody_app
from alih.payments.delivery import Delivery
from alih.payments.midtrans import signature
from alih.postgres.control import Control
from alih.postgres.custody import Custody
from alih.postgres.line import Line

SOCIAL, MARKETPLACE = Payee(name="social", key="SB-social"), Payee(name="marketplace", key="SB-market")
PAYEES: Mapping[Side, Payee] = {Side.SOURCE: SOCIAL, Side.TARGET: MARKETPLACE}
TENANT = "17"


def told(reference: str, state: str = "settlement", *, payee: Payee = SOCIAL, idr: int = 145_000, **more: Any) -> bytes:
    """A signed notice as the provider sends it."""
    code, gross = {"pending": "201", "expire": "407"}.get(state, "200"), f"{idr}.00"
    body = {
        "order_id": reference,
        "status_code": code,
        "gross_amount": gross,
        "signature_key": signature(reference, code, gross, payee.key),
        "transaction_status": state,
        "transaction_id": f"t-{reference}",
        "settlement_time": "2026-11-24 08:00:00",
    }
    return json.dumps(body | more).encode()


def notices_of(tenant: str) -> str:
    return f"/api/shops/{tenant}/payments/notices"


@dataclass(eq=False)
class Owner:
    """A back end that takes notices: what came, in its order, and what is not answered. `status` by reference."""

    arrived: list[tuple[str, str]] = field(default_factory=list)  # reference, state
    status: dict[str, int] = field(default_factory=dict)
    stuck: dict[str, asyncio.Event] = field(default_factory=dict)
    paths: set[str] = field(default_factory=set)
    location: str | None = None
    at_work: Counter[str] = field(default_factory=Counter)
    most_at_work: int = 0  # on one reference

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if request.method != "POST":
            return web.json_response({})
        body = json.loads(await request.read())
        reference = body["order_id"]
        self.arrived.append((reference, body["transaction_status"]))
        self.paths.add(request.raw_path)
        self.at_work[reference] += 1
        self.most_at_work = max(self.most_at_work, self.at_work[reference])
        try:
            if reference in self.stuck:
                await self.stuck[reference].wait()
            headers = {} if self.location is None else {"Location": self.location}
            return web.json_response({"ok": True}, status=self.status.get(reference, 200), headers=headers)
        finally:
            self.at_work[reference] -= 1

    @property
    def references(self) -> list[str]:
        return [reference for reference, _ in self.arrived]


@dataclass
class CustodyWorld:
    """`owners` says who owns each tenant; the source unless named."""

    address: str
    gate: Gate
    gate_address: str
    source: Owner
    target: Owner
    owners: dict[str, Side]
    custody: Custody
    dsn: str
    client: aiohttp.ClientSession

    async def post(self, body: bytes | BytesIO, tenant: str = TENANT, method: str = "POST") -> tuple[int, str]:
        """As Envoy passes it on."""
        url, headers = f"http://{self.address}{notices_of(tenant)}", {"x-alih-tenant": tenant}
        async with self.client.request(method, url, data=body, headers=headers) as answer:
            return answer.status, await answer.text()

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            return connection.execute(statement.encode()).fetchall()

    def do(self, statement: str) -> None:
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            connection.execute(statement.encode())

    def drop_connections(self) -> None:
        """The server ends every connection to the control database; new ones may come."""
        with psycopg.connect(make_conninfo(self.dsn, dbname="postgres"), autocommit=True) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s",
                (conninfo_to_dict(self.dsn)["dbname"],),
            )

    @contextmanager
    def away(self) -> Iterator[None]:
        """The control database is there for nobody."""
        with psycopg.connect(make_conninfo(self.dsn, dbname="postgres"), autocommit=True) as admin:
            name = sql.Identifier(str(conninfo_to_dict(self.dsn)["dbname"]))
            admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(name))
            self.drop_connections()
            try:
                yield
            finally:
                admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(name))

    def entries(self, kind: str) -> list[dict[str, Any]]:
        """The facts of the outbox's entries of a kind."""
        found = [json.loads(text) for (text,) in self.rows("SELECT entry FROM alih_control.outbox ORDER BY id")]
        return [entry["facts"] for entry in found if entry["kind"] == kind]

    @asynccontextmanager
    async def delivering(self) -> AsyncIterator[None]:
        """A delivery at work, on a line and with a session of its own."""
        async with (
            Line(self.dsn, "the control database") as line,
            aiohttp.ClientSession() as session,
            asyncio.TaskGroup() as tasks,
        ):
            at_work = tasks.create_task(Delivery(Custody(line), self.gate_address, session).deliver_forever())
            try:
                yield
            finally:
                at_work.cancel()


async def installed(dsn: str) -> None:
    async with Line(dsn, "the control database") as line:
        await Control(line).install()
        await Custody(line).install()
        await Control(line).admit({TENANT: "first", "18": "first"})


@asynccontextmanager
async def _owner(owner: Owner) -> AsyncIterator[str]:
    async with listening(application(owner.handle, 2_000_000), "127.0.0.1", 0, grace_s=1.0) as address:
        try:
            yield address
        finally:
            for waiting in owner.stuck.values():
                waiting.set()


@asynccontextmanager
async def custody_world(dsn: str, limits: Limits | None = None) -> AsyncIterator[CustodyWorld]:
    await installed(dsn)
    owners: dict[str, Side] = {}
    source, target = Owner(), Owner()

    async def owner_of(tenant: str) -> Side:
        return owners.get(tenant, Side.SOURCE)

    async def no_barrier() -> None:
        pass

    async with AsyncExitStack() as stack:
        upstreams = {
            Side.SOURCE: await stack.enter_async_context(_owner(source)),
            Side.TARGET: await stack.enter_async_context(_owner(target)),
        }
        gate = Gate(
            owner_of=owner_of, upstreams=upstreams, barrier=no_barrier, limits=limits or Limits(hold_s=0.3, grace_s=1.0)
        )
        gate_address = await stack.enter_async_context(gate.serving())
        custody = Custody(await stack.enter_async_context(Line(dsn, "the control database")))
        app = custody_app(custody, PAYEES)
        address = await stack.enter_async_context(listening(app, "127.0.0.1", 0, grace_s=1.0))
        client = await stack.enter_async_context(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
        yield CustodyWorld(address, gate, gate_address, source, target, owners, custody, dsn, client)


async def process(dsn: str, gate: str, listen: str) -> None:
    """What `alih custody` does, without a contract."""
    host, _, port = listen.rpartition(":")
    async with (
        Line(dsn, "the control database") as line,
        Line(dsn, "the control database") as other,
        aiohttp.ClientSession() as session,
        listening(custody_app(Custody(line), PAYEES), host, int(port), grace_s=1.0),
    ):
        await Delivery(Custody(other), gate, session).deliver_forever()


if __name__ == "__main__":
    asyncio.run(process(*sys.argv[1:4]))
