"""The demo's services under test: in this process, on real sockets and real databases."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import psycopg
import uvicorn
from psycopg import sql
from starlette.applications import Starlette

from alih.contract import Projections, compile, load  # the word of the domain
from alih.model.projection import Projection
from alih.postgres import catalog
from demo import seed
from demo.services.legacy.app import create_app as legacy_app
from demo.services.marketplace.app import create_app as marketplace_app
from demo.services.payments import signature
from demo.services.provider.app import create_app as provider_app
from tests.support.databases import Databases
from tests.support.waiting import until

CONTRACT = Path(__file__).parents[2] / "demo/tiktok-shop-to-tokopedia/alih.yaml"
KEYS = {"social": "social-key", "marketplace": "marketplace-key"}
TOKEN = "partner-token"
ADDRESS = {"name": "Ani", "phone": "+62811111111", "street": "Jalan Melati 1", "city": "Solo"}
NAMES = {
    "ALIH_SOURCE": "dbname=none", "ALIH_TARGET": "dbname=none", "ALIH_CONTROL": "dbname=none",
    "ALIH_GATEWAY": "127.0.0.1:8080", "ALIH_FRONT": "127.0.0.1:9001", "ALIH_LEGACY": "127.0.0.1:9002",
    "ALIH_MARKETPLACE": "127.0.0.1:9003", "MARKETPLACE_TOKEN": TOKEN,
    "PROVIDER_URL": "http://127.0.0.1:9004", "PAYEE_SOCIAL": KEYS["social"], "PAYEE_MARKETPLACE": KEYS["marketplace"],
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Api:
    """One service as its callers see it: a call gives (status, body)."""

    session: aiohttp.ClientSession
    url: str
    headers: Mapping[str, str]

    async def get(self, path: str, **headers: str) -> tuple[int, Any]:
        async with self.session.get(self.url + path, headers={**self.headers, **headers}) as response:
            return response.status, await _body(response)

    async def post(self, path: str, body: object, **headers: str) -> tuple[int, Any]:
        async with self.session.post(self.url + path, json=body, headers={**self.headers, **headers}) as response:
            return response.status, await _body(response)


async def _body(response: aiohttp.ClientResponse) -> Any:
    text = await response.text()
    return json.loads(text) if response.content_type == "application/json" else text


@dataclass(frozen=True, slots=True, kw_only=True)
class Shops:
    """Both back ends, the provider, and what was seeded."""

    legacy: Api
    marketplace: Api
    provider: Api
    legacy_dsn: str
    marketplace_dsn: str
    provider_dsn: str
    seeded: seed.Seeded

    @property
    def shop(self) -> seed.Shop:
        return self.seeded.shops[0]

    @property
    def merchant(self) -> int:
        return self.seeded.merchants[self.shop.id]


@asynccontextmanager
async def shops(databases: Databases) -> AsyncIterator[Shops]:
    """Seeded services: three shops; the provider pays after 50 ms and sends its notices to the legacy shop."""
    seed.create_schemas(legacy=databases.source, marketplace=databases.target, provider=databases.control)
    seeded = seed.seed(databases.source, databases.target, shops=3, test_shops=0, buyers=20, orders=60)
    own = socket.create_server(("127.0.0.1", 0))
    notice_base = f"http://127.0.0.1:{own.getsockname()[1]}"
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp.ClientSession())
        provider = provider_app(dsn=databases.control, keys=KEYS, settle_after_s=0.05)
        provider_url = await stack.enter_async_context(serving(provider))
        legacy = legacy_app(dsn=databases.source, provider_url=provider_url, keys=KEYS, notice_base=notice_base)
        legacy_url = await stack.enter_async_context(serving(legacy, own))
        marketplace = marketplace_app(
            dsn=databases.target, token=TOKEN, provider_url=provider_url, keys=KEYS, notice_base=notice_base
        )
        marketplace_url = await stack.enter_async_context(serving(marketplace))
        yield Shops(
            legacy=Api(session=session, url=legacy_url, headers={}),
            marketplace=Api(session=session, url=marketplace_url, headers={"Authorization": f"Bearer {TOKEN}"}),
            provider=Api(session=session, url=provider_url, headers={}),
            legacy_dsn=databases.source,
            marketplace_dsn=databases.target,
            provider_dsn=databases.control,
            seeded=seeded,
        )


@asynccontextmanager
async def serving(app: Starlette, bound: socket.socket | None = None) -> AsyncIterator[str]:
    """The address at which `app` answers for the length of the block."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="none", timeout_graceful_shutdown=2))
    with bound or socket.create_server(("127.0.0.1", 0)) as listening:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, [listening])
            await until(lambda: server.started)
            try:
                yield f"http://127.0.0.1:{listening.getsockname()[1]}"
            finally:
                server.should_exit = True


async def at_once(*calls: Any) -> list[tuple[int, Any]]:
    """The answers of calls that run at the same time."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(call) for call in calls]
    return [task.result() for task in tasks]


async def ordered(world: Shops, buyer: int, key: str, quantity: int = 1) -> str:
    """Buy the shop's first product; returns the order's id."""
    shop, headers = f"/api/shops/{world.shop.id}", {"X-Buyer-Id": str(buyer)}
    item = {"product_id": str(world.shop.products[0].id), "quantity": quantity}
    assert (await world.legacy.post(f"{shop}/cart/items", item, **headers))[0] == 200
    status, order = await world.legacy.post(
        f"{shop}/orders", {"address": ADDRESS}, **headers, **{"Idempotency-Key": key}
    )
    assert status == 201
    return str(order["order_id"])


async def paid(world: Shops, buyer: int, key: str, quantity: int = 1) -> str:
    """Buy the shop's first product and wait until the legacy shop knows it paid; returns the order's id."""
    order, me = await ordered(world, buyer, key, quantity), {"X-Buyer-Id": str(buyer)}
    path = f"/api/shops/{world.shop.id}/orders/{order}"
    assert (await world.legacy.post(f"{path}/payment", {"method": "qris"}, **me, **{"Idempotency-Key": key}))[0] == 200

    async def settled() -> bool:
        return bool((await world.legacy.get(path, **me))[1]["payment_status"] == "settlement")

    await until(settled)
    return order


def signed(charged: str, amount_idr: int, key: str, status: str = "settlement") -> dict[str, str]:
    """A notice that a charge has this status, signed with `key`."""
    amount = f"{amount_idr}.00"
    told = {"order_id": charged, "status_code": "200", "gross_amount": amount, "transaction_status": status}
    return told | {"transaction_id": "t-1", "signature_key": signature(charged, "200", amount, key)}


def query(dsn: str, statement: str, *values: object) -> list[tuple[Any, ...]]:
    with psycopg.connect(dsn) as conn:
        return conn.execute(statement.encode(), values).fetchall()


async def projections(source: str, target: str) -> Projections:
    """The demo's contract, compiled for these two databases."""
    contract = load(CONTRACT, NAMES)
    async with (
        await psycopg.AsyncConnection.connect(source) as one,
        await psycopg.AsyncConnection.connect(target) as other,
    ):
        return compile(contract, await catalog.read(one), await catalog.read(other))


def move(conn: psycopg.Connection, projection: Projection, source: psycopg.Connection) -> None:
    """Write the projection's rows from `source` to the other database, as its SQL says and by nothing else."""
    names = sql.SQL(", ").join(sql.Identifier(column.name) for column in projection.read_columns)
    table = sql.Identifier(projection.reads.schema, projection.reads.name)
    into = sql.Identifier(projection.writes.schema, projection.writes.name)
    conn.execute(sql.SQL("DROP TABLE IF EXISTS r"))
    shape = (sql.SQL("{} {}").format(sql.Identifier(c.name), sql.SQL(c.type)) for c in projection.read_columns)
    conn.execute(sql.SQL("CREATE TEMP TABLE r ({})").format(sql.SQL(", ").join(shape)))
    read = sql.SQL("COPY (SELECT {} FROM {} r) TO STDOUT").format(names, table)
    with (
        source.cursor() as reading,
        conn.cursor() as writing,
        reading.copy(read) as copy_out,
        writing.copy(b"COPY r FROM STDIN") as copy_in,
    ):
        for block in copy_out:
            copy_in.write(block)
    columns = sql.SQL(", ").join(sql.Identifier(a.column) for a in projection.assignments)
    values = sql.SQL(", ").join(sql.SQL(a.sql) for a in projection.assignments)
    conn.execute(sql.SQL("INSERT INTO {} ({}) SELECT {} FROM r").format(into, columns, values))


async def move_all(world: Shops) -> None:
    """Bring every row of the legacy shop to the marketplace, through the contract."""
    compiled = await projections(world.legacy_dsn, world.marketplace_dsn)
    with psycopg.connect(world.legacy_dsn) as source, psycopg.connect(world.marketplace_dsn) as target:
        target.execute(b"CREATE SCHEMA alih; CREATE TABLE alih.link (entity text, source_id text, target_id text)")
        target.execute(b"INSERT INTO alih.link SELECT 'shops', social_shop_id, merchant_id FROM seller_bindings")
        for projection in compiled.forward:
            move(target, projection, source)
