"""A small shop over HTTP in which purchases are tried, with a provider and books in memory; tests plant what is wrong.

What a trial does there and what it is judged by do not meet but in the shop: clicks go over HTTP, records are read as
alih reads a side's.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from alih.errors import Retryable
from alih.gateway.wire import listening
from alih.model.commerce import Trial, TrialStep
from alih.model.phase import Phase, Verified
from alih.model.side import Ownership, Side
from alih.payments.midtrans import Status
from alih.postgres.sales import Booked, Charge, Refund, Sale
from alih.proof.sales import Placed
from alih.proof.shopper import Limits
from alih.proof.trial import Trials

NOW = datetime(2024, 2, 29, tzinfo=UTC)
PAYEES = {Side.SOURCE: "social", Side.TARGET: "market"}
QUICK = Limits(answer_s=1.0, until_s=1.0, records_s=0.2, pause_s=0.01)
PRICE = 145_000


def step(name: str, call: str, **more: Any) -> TrialStep:
    method, path = call.split(" ")
    plain: dict[str, Any] = {"headers": {}, "body": None, "status": 200, "takes": {}, "patterns": {}, "until": {}}
    return TrialStep(name=name, method=method, path=path, **plain | more)


ORDER = "/api/shops/{tenant}/orders/{order}"
STEPS = (
    step(
        "promotion",
        "GET /p/{promotion}",
        status=302,
        takes={"product": "location"},
        patterns={"product": "/#/shops/{tenant}/products/{product}"},
    ),
    step("shop_tab", "GET /api/shops/{tenant}"),
    step("product", "GET /api/shops/{tenant}/products/{product}", takes={"shown": "body.price"}),
    step("cart", "POST /api/shops/{tenant}/cart/items", body={"product_id": "{product}", "quantity": 1}),
    step(
        "order",
        "POST /api/shops/{tenant}/orders",
        status=201,
        headers={"Idempotency-Key": "{key}-order"},
        body={"note": "for {tenant}"},
        takes={"order": "body.order_id", "ordered": "body.items.0.price", "invoice": "body.invoice_url"},
    ),
    step("pay", f"POST {ORDER}/payment", takes={"charged": "body.gross_amount"}),
    step("paid", f"GET {ORDER}", until={"body.payment_status": "settlement", "body.open": "false"}),
    step("invoice", "GET {invoice}"),
    step("refund", f"POST {ORDER}/refunds", body={"amount": "{charged}"}, takes={"refunded": "body.amount"}),
    step("refunded", f"GET {ORDER}", until={"body.payment_status": "refund", "body.open": "false"}),
)
TRIAL = Trial(
    tenants={"first": {"tenant": "298", "promotion": "a b"}, "rest": {"tenant": "300", "promotion": "c"}},
    steps=STEPS,
    tab="shop_tab",
)


@dataclass(slots=True)
class Shop:
    """A shop, its provider and its books. What is planted stands in the first fields; a test sets one of them."""

    asked_more: int = 0  # rupiah charged above the price
    payee: str | None = None  # who collects, if not the owner
    stray_idr: int = 0  # booked at the other side
    unbooked_refund: bool = False
    invoice_url: str = "/invoices/{order}"
    invoice_text: str = "<a href='/help'>?</a><svg xmlns='http://www.w3.org/2000/svg'/>"
    redirects_to: str = ""  # where a promotion leads, if not to the shop itself
    broken: str = ""  # a path ending that answers 500
    slow: str = ""  # a path ending that does not answer in time
    tab: Any = None
    pending: int = 1  # looks at an order before it has settled
    owner: Side = Side.SOURCE
    epoch: int = 0
    phase: Phase = Verified("0/1")  # noqa: RUF009 - a frozen value
    flips_at: str = ""  # a path ending at which the owner changes
    away: bool = False  # whether the records cannot be read
    keys: list[str | None] = field(default_factory=list)
    bodies: list[Any] = field(default_factory=list)
    orders: dict[str, dict[str, int]] = field(default_factory=dict)
    collected_by: dict[str, str] = field(default_factory=dict)

    def app(self) -> web.Application:
        app = web.Application(middlewares=[self._spoiling()])
        app.router.add_get("/p/{promotion}", self._promoted)
        app.router.add_get("/invoices/{order}", self._invoiced)
        app.router.add_get("/api/shops/{shop}", self._opened)
        app.router.add_get("/api/shops/{shop}/products/{product}", self._priced)
        app.router.add_post("/api/shops/{shop}/cart/items", self._chosen)
        app.router.add_post("/api/shops/{shop}/orders", self._ordered)
        app.router.add_get("/api/shops/{shop}/orders/{order}", self._shown)
        app.router.add_post("/api/shops/{shop}/orders/{order}/payment", self._charged)
        app.router.add_post("/api/shops/{shop}/orders/{order}/refunds", self._refunded)
        return app

    def _spoiling(self) -> Any:
        @web.middleware
        async def spoil(request: web.Request, handler: Any) -> web.StreamResponse:
            if self.flips_at and request.path.endswith(self.flips_at):
                self.owner, self.epoch = self.owner.other, self.epoch + 1
            if self.slow and request.path.endswith(self.slow):
                await asyncio.Event().wait()
            if self.broken and request.path.endswith(self.broken):
                return web.json_response({"error": "internal"}, status=500)
            response: web.StreamResponse = await handler(request)
            return response

        return spoil

    async def _promoted(self, request: web.Request) -> web.Response:
        shop = {"a b": "298", "c": "300"}[request.match_info["promotion"]]
        return web.Response(status=302, headers={"Location": f"{self.redirects_to}/#/shops/{shop}/products/P%209"})

    async def _invoiced(self, _request: web.Request) -> web.Response:
        return web.Response(text=self.invoice_text, content_type="text/html")

    async def _opened(self, _request: web.Request) -> web.Response:
        return web.json_response(self.tab)

    async def _priced(self, request: web.Request) -> web.Response:
        known = request.match_info["product"] == "P 9"
        return web.json_response({"price": f"{PRICE}.00"}, status=200 if known else 404)

    async def _chosen(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.json())
        return web.json_response({})

    async def _ordered(self, request: web.Request) -> web.Response:
        self.keys.append(request.headers.get("Idempotency-Key"))
        order = f"ORDER-{len(self.orders)}"
        self.orders[order] = {"looks": 0, "charged": 0, "refunded": 0}
        url = self.invoice_url.replace("{order}", order)
        answer = {"order_id": order, "items": [{"price": PRICE}], "invoice_url": url}
        return web.json_response(answer, status=201)

    async def _charged(self, request: web.Request) -> web.Response:
        order = request.match_info["order"]
        self.orders[order]["charged"] = PRICE + self.asked_more
        self.collected_by[order] = self.payee or PAYEES[self.owner]
        return web.json_response({"gross_amount": PRICE + self.asked_more})

    async def _shown(self, request: web.Request) -> web.Response:
        known = self.orders[request.match_info["order"]]
        known["looks"] += 1
        state = "refund" if known["refunded"] else "settlement" if known["looks"] > self.pending else "pending"
        return web.json_response({"payment_status": state, "open": False})

    async def _refunded(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.bodies.append(body)
        self.orders[request.match_info["order"]]["refunded"] = body["amount"]
        return web.json_response({"amount": body["amount"]})

    async def placed(self, orders: Iterable[str]) -> dict[str, Placed]:
        if self.away:
            raise Retryable("the source database is away", remedy="start it")
        return {order: self._placed(order) for order in orders}

    async def status(self, reference: str, payee: str) -> Status | None:
        order = reference.removeprefix("ref-")
        known = self.orders[order]
        if self.collected_by.get(order) != payee:
            return None
        refunds = (("r-1", known["refunded"]),) if known["refunded"] else ()
        return Status(gross_idr=known["charged"], state="settlement", settled_at=NOW, refunds=refunds)

    def _placed(self, order: str) -> Placed:
        known, owner = self.orders[order], Ownership("298", self.owner, self.epoch)
        charged, refunded = known["charged"], known["refunded"]
        charges = (Charge(self.collected_by[order], f"ref-{order}", charged, True, NOW, NOW),) if charged else ()
        entries = [Booked("1", charged)] if charged else []
        entries += [Booked("2", -refunded)] if refunded and not self.unbooked_refund else []
        sale = Sale(
            tenant="298",
            order=order,
            amount_idr=PRICE,
            at=NOW,
            charges=charges,
            refunds=(Refund("r-1", refunded, True),) if refunded else (),
            entries=tuple(entries),
        )
        foreign = (Booked("3", self.stray_idr),) if self.stray_idr else ()
        return Placed(order=order, owner=owner, sale=sale, foreign=foreign)


@dataclass(frozen=True, slots=True)
class Owners:
    shop: Shop

    async def owner(self, tenant: str) -> Ownership:
        return Ownership(tenant, self.shop.owner, self.shop.epoch)

    async def phase(self, _tenant: str) -> Phase:
        return self.shop.phase


@asynccontextmanager
async def open_shop(shop: Shop, trial: Trial = TRIAL) -> AsyncIterator[Trials]:
    async with listening(shop.app(), "127.0.0.1", 0, grace_s=0.1) as address:
        yield Trials(
            trial=trial,
            gateway=f"http://{address}",
            payees=PAYEES,
            owners=Owners(shop),
            ledgers=shop,
            provider=shop,
            limits=QUICK,
        )
