"""A shop small enough to hold in memory, honest unless told to lie: the other end for tests of the shoppers."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

PRICE_IDR = 145_000
PAID = {"status": "AWAITING_SHIPMENT", "payment_status": "settlement"}


@dataclass
class LittleShop:
    """The front end's API. Each flag is one lie, told from then on."""

    promo_target: str = "/"
    invoice_link: str = ""
    fresh_order_for_each_key: bool = False
    fresh_charge_for_each_key: bool = False
    fresh_refund_for_each_key: bool = False
    forgets_refunds: bool = False
    slow_buyers: bool = False
    forgets_orders: bool = False
    miscounts: bool = False
    sold_out: bool = False
    broken_checkouts: int = 0
    extra_field: bool = False
    orders: dict[str, dict[str, Any]] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    refunds: dict[str, str] = field(default_factory=dict)
    given: int = 0
    looks: Counter[str] = field(default_factory=Counter)
    carts: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    cities: dict[str, str] = field(default_factory=dict)

    async def feed(self, _: web.Request) -> web.Response:
        return web.json_response({"videos": [{"caption": "murah", "promo": "/p/v1"}]})

    async def promo(self, _: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": f"{self.promo_target}#/shops/1000000001/products/11"})

    async def page(self, _: web.Request) -> web.Response:
        return web.Response(text="<title>Toko</title>", content_type="text/html")

    async def shop(self, request: web.Request) -> web.Response:
        extra = {"owner_nik": "3174"} if self.extra_field else {}
        shop = {"shop_id": request.match_info["shop"], "name": "Toko", "city": "Medan", "processed_by": "Legacy"}
        return web.json_response(shop | extra)

    async def products(self, _: web.Request) -> web.Response:
        return web.json_response({"products": [self._product()]})

    async def product(self, _: web.Request) -> web.Response:
        return web.json_response(self._product() | {"description": "kopi"})

    def _product(self) -> dict[str, Any]:
        return {"product_id": "11", "title": "Kopi", "price": f"{PRICE_IDR}.00", "stock": 1000}

    async def add(self, request: web.Request) -> web.Response:
        item = await request.json()
        cart = self.carts.setdefault(request.headers["X-Buyer-Id"], [])
        cart.append({"product_id": item["product_id"], "quantity": item["quantity"], "price": f"{PRICE_IDR}.00"})
        return await self.cart(request)

    async def cart(self, request: web.Request) -> web.Response:
        items = self.carts.get(request.headers["X-Buyer-Id"], [])
        return web.json_response({"items": items, "total_amount": self._total(items)})

    def _total(self, items: list[dict[str, Any]]) -> str:
        return f"{sum(item['quantity'] for item in items) * PRICE_IDR}.00"

    async def checkout(self, request: web.Request) -> web.Response:
        if self.sold_out:
            return web.json_response({"error": "out_of_stock", "message": "habis"}, status=409)
        if self.broken_checkouts:
            self.broken_checkouts -= 1
            return web.json_response({"error": "upstream", "message": ""}, status=502)
        key = request.headers["Idempotency-Key"]
        if key not in self.keys or self.fresh_order_for_each_key:
            self._place(request, key)
        return web.json_response(self.orders[self.keys[key]], status=201)

    def _place(self, request: web.Request, key: str) -> None:
        buyer, shop = request.headers["X-Buyer-Id"], request.match_info["shop"]
        order_id = str(1_000_000_001 + len(self.orders))
        items = self.carts.pop(buyer, []) or self.orders[self.keys[key]]["items"]
        path = f"/api/shops/{shop}/orders/{order_id}"
        self.keys[key] = order_id
        self.orders[order_id] = {
            "order_id": order_id,
            "shop_id": shop,
            "buyer": buyer,
            "status": "UNPAID",
            "payment_status": None,
            "total_amount": "1000.00" if self.miscounts else self._total(items),
            "items": items,
            "invoice_url": self.invoice_link or f"{path}/invoice",
        }

    async def pay(self, request: web.Request) -> web.Response:
        order = self.orders[request.match_info["order"]]
        if not self.slow_buyers:
            order |= PAID
        charges = order.setdefault("charges", [])
        if not charges or self.fresh_charge_for_each_key:
            charges.append(f"{order['order_id']}-{len(charges)}")
        charge = {"charge_id": charges[-1], "order_id": order["order_id"], "gross_amount": order["total_amount"]}
        return web.json_response(charge | {"transaction_status": "pending"})

    async def refund(self, request: web.Request) -> web.Response:
        order, asked = self.orders[request.match_info["order"]], await request.json()
        key = request.headers["Idempotency-Key"]
        if key not in self.refunds or self.fresh_refund_for_each_key:
            self.refunds[key] = f"{order['order_id']}-{self.given}"
            self.given += 1
        if not self.forgets_refunds:
            order["payment_status"] = "partial_refund"
        given = {"refund_id": self.refunds[key], "order_id": order["order_id"], "amount": asked["amount"]}
        return web.json_response(given | {"status": "settled"})

    async def order(self, request: web.Request) -> web.Response:
        self.looks[request.match_info["order"]] += 1
        return web.json_response(self.orders[request.match_info["order"]])

    async def invoice(self, request: web.Request) -> web.Response:
        order = self.orders[request.match_info["order"]]
        rupiah = f"{int(order['total_amount'][:-3]):,}".replace(",", ".")
        return web.Response(text=f"<p>{order['order_id']}: Rp{rupiah}</p>", content_type="text/html")

    async def my_orders(self, request: web.Request) -> web.Response:
        mine = [order for order in self.orders.values() if order["buyer"] == request.headers["X-Buyer-Id"]]
        return web.json_response({"orders": [] if self.forgets_orders else mine[::-1][:50]})

    async def profile(self, request: web.Request) -> web.Response:
        buyer = request.headers["X-Buyer-Id"]
        if request.method == "POST":
            self.cities[buyer] = (await request.json())["city"]
        city = self.cities.get(buyer, "Jakarta")
        return web.json_response({"name": "Sari", "phone": "+628", "email": "s@example.com", "city": city})

    def app(self) -> web.Application:
        app = web.Application()
        shop = "/api/shops/{shop}"
        app.router.add_get("/", self.page)
        app.router.add_get("/api/feed", self.feed)
        app.router.add_get("/p/{promo}", self.promo)
        app.router.add_get(shop, self.shop)
        app.router.add_get(f"{shop}/products", self.products)
        app.router.add_get(f"{shop}/products/{{product}}", self.product)
        app.router.add_post(f"{shop}/cart/items", self.add)
        app.router.add_get(f"{shop}/cart", self.cart)
        app.router.add_post(f"{shop}/orders", self.checkout)
        app.router.add_post(f"{shop}/orders/{{order}}/payment", self.pay)
        app.router.add_post(f"{shop}/orders/{{order}}/refunds", self.refund)
        app.router.add_get(f"{shop}/orders/{{order}}", self.order)
        app.router.add_get(f"{shop}/orders/{{order}}/invoice", self.invoice)
        app.router.add_get("/api/me/orders", self.my_orders)
        app.router.add_route("*", "/api/me/profile", self.profile)
        return app


@asynccontextmanager
async def serving(shop: LittleShop) -> AsyncIterator[str]:
    """The shop's address while it is open."""
    runner = web.AppRunner(shop.app())
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()
