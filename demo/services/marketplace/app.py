"""The marketplace's API for the partner that shows its shops: an envelope, whole numbers, numeric states.

Every call bears the partner's token. A shop is a merchant here.
"""

import hmac
from typing import Annotated, Any, Literal

import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from demo.services import shop
from demo.services.shop import Address, buying, shown
from demo.services.web import ApiError, answer, db, page_size, parsed, service

OPERATOR = "Marketplace (modelled on Tokopedia)"


class BasketItem(msgspec.Struct):
    item_id: int
    qty: int


class NewOrder(msgspec.Struct):
    recipient: Address


class Payment(msgspec.Struct):
    method: Literal["1", "2"]  # partners send codes as text


class Refund(msgspec.Struct):
    amount_idr: int
    reason: Annotated[str, msgspec.Meta(max_length=255)]


class Profile(msgspec.Struct):
    full_name: str
    phone_number: str
    email: str
    city: str


def enveloped(data: object, status: int = 200) -> Response:
    return answer({"header": {"messages": "Your request has been processed successfully"}, "data": data}, status)


def refusal(error: ApiError) -> dict[str, Any]:
    told = {"code": error.code, "message": error.message}
    return {"header": {"messages": "Your request was refused"}, "error": told}


async def list_items(request: Request) -> Response:
    return enveloped({"items": await db(request).rows("products", **request.path_params)})


async def add_to_basket(request: Request) -> Response:
    item = await parsed(request, BasketItem)
    return enveloped(await shop.put_into_cart(request, buying(request), item.item_id, item.qty))


async def place_order(request: Request) -> Response:
    asked = {**buying(request), "key": shop.idempotency_key(request)}
    return enveloped(await shop.check_out(request, asked, (await parsed(request, NewOrder)).recipient), 201)


async def pay(request: Request) -> Response:
    charge = await shop.pay(request, int((await parsed(request, Payment)).method))
    how = {"va_number": charge["va_number"]} if charge["pays_by"] == "va" else {"qr_payload": charge["qr_string"]}
    begun = {"payment_id": charge["charge_id"], "order_id": charge["order_id"], "method": charge["method"], **how}
    return enveloped({**begun, "amount_idr": charge["amount"], "state": charge["status"]})


async def refund(request: Request) -> Response:
    asked = await parsed(request, Refund)
    made = await shop.refund(request, asked.amount_idr, asked.reason)
    ids = {name: made[name] for name in ("refund_id", "order_id")}
    return enveloped(ids | {"amount_idr": made["amount"], "state": made["status"]})


async def notice(request: Request) -> Response:
    return enveloped(await shop.take_notice(request))


async def orders_of_user(request: Request) -> Response:
    limit = page_size(request, "per_page")
    return enveloped({"orders": await db(request).rows("orders_of_buyer", **request.path_params, limit=limit)})


async def change_profile(request: Request) -> Response:
    profile = msgspec.structs.asdict(await parsed(request, Profile))
    return enveloped(await db(request).row("change_profile", **request.path_params, **profile))


class PartnersOnly:
    """Refuses calls that do not bear the partner's token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            shown = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(shown, self._expected):
                refused = answer(refusal(ApiError(401, "unauthorized", "partners only")), 401)
                return await refused(scope, receive, send)
        return await self._app(scope, receive, send)


ROUTES = [
    Route("/v2/fs/{shop:int}/storefront", shown("shop", enveloped)),
    Route("/v2/fs/{shop:int}/products", list_items),
    Route("/v2/fs/{shop:int}/products/{product:int}", shown("product", enveloped)),
    Route("/v2/fs/{shop:int}/basket", shown("cart", enveloped, buying)),
    Route("/v2/fs/{shop:int}/basket", add_to_basket, methods=["POST"]),
    Route("/v2/fs/{shop:int}/order", place_order, methods=["POST"]),
    Route("/v2/fs/{shop:int}/order/{order:int}", shown("order", enveloped, buying)),
    Route("/v2/fs/{shop:int}/order/{order:int}/payment", pay, methods=["POST"]),
    Route("/v2/fs/{shop:int}/order/{order:int}/refund", refund, methods=["POST"]),
    Route("/v2/fs/{shop:int}/order/{order:int}/invoice", shop.invoice),
    Route("/v2/fs/{shop:int}/payments/notices", notice, methods=["POST"]),
    Route("/v2/users/{buyer:int}/orders", orders_of_user),
    Route("/v2/users/{buyer:int}/profile", shown("profile", enveloped)),
    Route("/v2/users/{buyer:int}/profile", change_profile, methods=["POST"]),
]


def create_app(*, token: str, **settings: Any) -> Starlette:
    """The service for the partner with `token`, with the settings of `shop.opened`."""
    middleware = [Middleware(PartnersOnly, token=token)]
    return service(ROUTES, lambda _: shop.opened("marketplace", "x-user-id", OPERATOR, **settings), refusal, middleware)
