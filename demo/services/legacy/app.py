"""The shop's API as the front end knows it: ids and money as strings, times in Unix seconds."""

from typing import Annotated, Any, Literal

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from demo.services import shop
from demo.services.payments import Amount, rupiah
from demo.services.shop import Address, buying, shown
from demo.services.web import ApiError, Row, answer, db, page_size, parsed, service

OPERATOR = "Social (modelled on TikTok Shop)"


class Item(msgspec.Struct):
    product_id: str
    quantity: int


class Checkout(msgspec.Struct):
    address: Address


class Payment(msgspec.Struct):
    method: Literal["va", "qris"]


class Refund(msgspec.Struct):
    amount: Amount
    reason: Annotated[str, msgspec.Meta(max_length=255)]


class Profile(msgspec.Struct):
    name: str
    phone: str
    email: str
    city: str


async def list_products(request: Request) -> Response:
    return answer({"products": await db(request).rows("products", **request.path_params)})


async def add_to_cart(request: Request) -> Response:
    item, cart = await parsed(request, Item), buying(request)
    if not item.product_id.isdecimal():
        raise ApiError(400, "bad_request", "one product, 1 to 99 pieces")
    return answer(await shop.put_into_cart(request, cart, int(item.product_id), item.quantity))


async def check_out(request: Request) -> Response:
    asked = {**buying(request), "key": shop.idempotency_key(request)}
    order = await shop.check_out(request, asked, (await parsed(request, Checkout)).address)
    return answer(_without(order, "payment_status"), 201)


async def show_order(request: Request) -> Response:
    return answer(_without(await db(request).row("order", **buying(request)), "create_time"))


def _without(row: Row, field: str) -> Row:
    return {name: value for name, value in row.items() if name != field}


async def pay(request: Request) -> Response:
    charge = await shop.pay(request, (await parsed(request, Payment)).method)
    how = "va_number" if charge["method"] == "va" else "qr_string"
    begun = {
        "charge_id": str(charge["charge_id"]),
        "order_id": str(charge["order_id"]),
        "payment_type": charge["method"],
        how: charge[how],
        "gross_amount": f"{charge['amount']}.00",
        "transaction_status": charge["status"],
    }
    return answer(begun)


async def refund(request: Request) -> Response:
    asked = await parsed(request, Refund)
    made = await shop.refund(request, rupiah(asked.amount), asked.reason)
    ids = {name: str(made[name]) for name in ("refund_id", "order_id")}
    return answer(ids | {"amount": f"{made['amount']}.00", "status": made["status"]})


async def notice(request: Request) -> Response:
    return answer(await shop.take_notice(request))


async def my_orders(request: Request) -> Response:
    buyer, limit = buying(request), page_size(request, "limit")
    return answer({"orders": await db(request).rows("orders_of_buyer", **buyer, limit=limit)})


async def change_profile(request: Request) -> Response:
    profile = msgspec.structs.asdict(await parsed(request, Profile))
    return answer(await db(request).row("change_profile", **buying(request), **profile))


ROUTES = [
    Route("/api/shops/{shop:int}", shown("shop", answer)),
    Route("/api/shops/{shop:int}/products", list_products),
    Route("/api/shops/{shop:int}/products/{product:int}", shown("product", answer)),
    Route("/api/shops/{shop:int}/cart/items", add_to_cart, methods=["POST"]),
    Route("/api/shops/{shop:int}/cart", shown("cart", answer, buying)),
    Route("/api/shops/{shop:int}/orders", check_out, methods=["POST"]),
    Route("/api/shops/{shop:int}/orders/{order:int}", show_order),
    Route("/api/shops/{shop:int}/orders/{order:int}/payment", pay, methods=["POST"]),
    Route("/api/shops/{shop:int}/orders/{order:int}/refunds", refund, methods=["POST"]),
    Route("/api/shops/{shop:int}/orders/{order:int}/invoice", shop.invoice),
    Route("/api/shops/{shop:int}/payments/notices", notice, methods=["POST"]),
    Route("/api/me/orders", my_orders),
    Route("/api/me/profile", shown("profile", answer, buying)),
    Route("/api/me/profile", change_profile, methods=["POST"]),
]


def create_app(**settings: Any) -> Starlette:
    """The service with the settings of `shop.opened`."""
    return service(ROUTES, lambda _: shop.opened("legacy", "x-buyer-id", OPERATOR, **settings))
