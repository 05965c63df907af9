"""The demo's contract fits the demo's back ends: databases, and every call of the front end."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
import psycopg
import pytest
from aiohttp import web

from alih.contract import check, load
from alih.gateway.adapter import adapter_app
from alih.model.projection import Direction
from alih.postgres import catalog
from tests.demo.services import ADDRESS, CONTRACT, KEYS, NAMES, Api, Shops, move_all, query, shops, signed
from tests.support.databases import Databases

Shape = dict[str, "Shape"] | list["Shape"] | str


def shape_of(value: object) -> Shape:
    """Names in their order, and types: what a front end relies on."""
    if isinstance(value, dict):
        return {name: shape_of(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [shape_of(inner) for inner in value[:1]]
    return type(value).__name__


@asynccontextmanager
async def adapter(world: Shops) -> AsyncIterator[Api]:
    """The adapter of the demo's contract in front of the marketplace."""
    contract = load(CONTRACT, NAMES | {"ALIH_MARKETPLACE": world.marketplace.url.removeprefix("http://")})
    there = {str(shop): str(merchant) for shop, merchant in world.seeded.merchants.items()}
    back = {merchant: shop for shop, merchant in there.items()}

    async def links(_entity: str, identifier: str, direction: Direction) -> str | None:
        return (there if direction is Direction.FORWARD else back).get(identifier)

    runner = web.AppRunner(adapter_app(contract, links))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    async with aiohttp.ClientSession() as session:
        yield Api(session=session, url=f"http://{host}:{port}", headers={})
    await runner.cleanup()


@dataclass(frozen=True, slots=True)
class Journey:
    """All calls of the front end, in a shopper's order: (call, status, shape of the answer)."""

    world: Shops
    api: Api
    key: str  # the payee's, who signs notices
    answers: list[tuple[str, int, Shape]]

    async def get(self, name: str, path: str, **headers: str) -> object:
        status, body = await self.api.get(path, **headers)
        self.answers.append((name, status, shape_of(body)))
        return body

    async def post(self, name: str, path: str, body: object, **headers: str) -> object:
        status, answered = await self.api.post(path, body, **headers)
        self.answers.append((name, status, shape_of(answered)))
        return answered

    async def run(self, buyer: int, method: str) -> None:
        shop, product = f"/api/shops/{self.world.shop.id}", self.world.shop.products[0]
        me = {"X-Buyer-Id": str(buyer)}
        keyed = me | {"Idempotency-Key": f"journey-{buyer}"}
        await self.get("shop", shop)
        await self.get("products", f"{shop}/products")
        await self.get("product", f"{shop}/products/{product.id}")
        await self.post("add", f"{shop}/cart/items", {"product_id": str(product.id), "quantity": 2}, **me)
        await self.get("cart", f"{shop}/cart", **me)
        placed = await self.post("order", f"{shop}/orders", {"address": ADDRESS}, **keyed)
        assert isinstance(placed, dict)
        order = f"{shop}/orders/{placed['order_id']}"
        await self.get("unpaid", order, **me)
        await self.post("pay", f"{order}/payment", {"method": method}, **keyed)
        told = signed(f"ORDER-{placed['order_id']}", product.price_idr * 2, self.key)
        await self.post("notice", f"{shop}/payments/notices", told)
        assert placed["total_amount"] == f"{product.price_idr * 2}.00"
        await self.get("paid", order, **me)
        await self.post("refund", f"{order}/refunds", {"amount": "1000.00", "reason": "pecah"}, **keyed)
        await self.get("refunded", order, **me)
        await self.get("invoice", placed["invoice_url"])
        await self.get("mine", "/api/me/orders?limit=3", **me)
        profile = {"name": "Ani", "phone": "+62811", "email": "ani@example.com", "city": "Solo"}
        await self.post("change", "/api/me/profile", profile, **me)
        await self.get("profile", "/api/me/profile", **me)
        await self.post("empty", f"{shop}/orders", {"address": ADDRESS}, **me, **{"Idempotency-Key": f"no-{buyer}"})
        await self.get("none", f"{shop}/orders/1", **me)


@pytest.mark.anyio
async def test_the_contract_fits_both_databases(databases: Databases) -> None:
    async with shops(databases) as world:
        contract = load(CONTRACT, NAMES)
        async with (
            await psycopg.AsyncConnection.connect(world.legacy_dsn) as source,
            await psycopg.AsyncConnection.connect(world.marketplace_dsn) as target,
        ):
            assert check(contract, await catalog.read(source), await catalog.read(target)) == []


@pytest.mark.anyio
@pytest.mark.parametrize("method", ["va", "qris"])
async def test_the_front_end_cannot_tell_the_back_ends_apart(databases: Databases, method: str) -> None:
    async with shops(databases) as world:
        with psycopg.connect(world.legacy_dsn) as conn:
            conn.execute(b"DELETE FROM carts")
        before = Journey(world, world.legacy, KEYS["social"], [])
        await before.run(world.seeded.buyers[0], method)
        await move_all(world)
        async with adapter(world) as api:
            after = Journey(world, api, KEYS["marketplace"], [])
            await after.run(world.seeded.buyers[1], method)
        assert after.answers == before.answers
        refused = {name: status for name, status, _ in before.answers if status >= 400}
        assert refused == {"empty": 409, "none": 404}


@pytest.mark.anyio
async def test_the_marketplaces_extra_fields_stay_behind(databases: Databases) -> None:
    async with shops(databases) as world:
        await move_all(world)
        orders = "SELECT shop_id, order_id, buyer_id FROM orders LIMIT 1"
        shop, order, buyer = query(world.legacy_dsn, orders)[0]
        path = f"/v2/fs/{world.seeded.merchants[shop]}/order/{order}"
        with psycopg.connect(world.marketplace_dsn) as conn:
            conn.execute(b"UPDATE users SET national_id = '3273010101900001' WHERE user_id = %s", (buyer,))
        _, direct = await world.marketplace.get(path, **{"X-User-Id": str(buyer)})
        async with adapter(world) as api:
            status, passed = await api.get(f"/api/shops/{shop}/orders/{order}", **{"X-Buyer-Id": str(buyer)})
        assert (status, passed["processed_by"]) == (200, "Marketplace (modelled on Tokopedia)")
        for field in ("buyer_national_id", "buyer_phone"):
            assert direct["data"][field] not in str(passed)
            assert direct["data"][field]
