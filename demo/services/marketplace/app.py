"""The marketplace's API for the partner that shows its shops; every call bears the partner's token."""

import hmac
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from demo.services.invoice import invoice
from demo.services.marketplace.ordering import add_to_basket, place_order, show_basket, show_order
from demo.services.marketplace.payment import notice, pay
from demo.services.marketplace.shapes import OPERATOR, enveloped, refusal
from demo.services.payments import Provider
from demo.services.web import ApiError, database, page_size, parsed, row, rows

STOREFRONT = """
    SELECT merchant_id, display_name, city, (rating_tenths / 10.0)::numeric(2,1)::text AS rating
    FROM social_storefronts WHERE merchant_id = %(merchant)s"""
ITEMS = """
    SELECT item_id, title, price_idr, available, picture, min_order FROM catalog_items JOIN inventory USING (item_id)
    WHERE catalog_items.merchant_id = %(merchant)s AND catalog_items.channel = 'social' AND state = 1
    ORDER BY item_id"""
ITEM = """
    SELECT item_id, title, description, price_idr, available, picture, min_order
    FROM catalog_items JOIN inventory USING (item_id)
    WHERE catalog_items.merchant_id = %(merchant)s AND item_id = %(item)s
      AND catalog_items.channel = 'social' AND state = 1"""
INVOICE = """
    SELECT display_name AS shop, amount_idr, paid_at IS NOT NULL AS paid
    FROM trade_orders JOIN social_storefronts USING (merchant_id)
    WHERE merchant_id = %(merchant)s AND order_id = %(order)s AND channel = 'social'"""
ORDERS_OF_USER = """
    SELECT order_id, merchant_id, status, amount_idr FROM trade_orders
    WHERE user_id = %(user)s AND channel = 'social' ORDER BY created_at DESC, order_id DESC LIMIT %(limit)s"""
PROFILE = "SELECT user_id, full_name, phone_number, email, city, national_id FROM users WHERE user_id = %(user)s"
CHANGE_PROFILE = """
    UPDATE users SET full_name = %(full_name)s, phone_number = %(phone_number)s, email = %(email)s, city = %(city)s
    WHERE user_id = %(user)s RETURNING user_id, full_name, phone_number, email, city, national_id"""


class Profile(msgspec.Struct):
    full_name: str
    phone_number: str
    email: str
    city: str


async def show_storefront(request: Request) -> Response:
    found = await row(request, STOREFRONT, merchant=request.path_params["merchant"])
    return enveloped(found | {"processed_by": OPERATOR})


async def list_items(request: Request) -> Response:
    return enveloped({"items": await rows(request, ITEMS, merchant=request.path_params["merchant"])})


async def show_item(request: Request) -> Response:
    return enveloped(await row(request, ITEM, **request.path_params))


async def show_invoice(request: Request) -> Response:
    facts: dict[str, Any] = await row(request, INVOICE, **request.path_params)
    return invoice(order_id=request.path_params["order"], processed_by=OPERATOR, **facts)


async def orders_of_user(request: Request) -> Response:
    user, limit = request.path_params["user"], page_size(request, "per_page")
    return enveloped({"orders": await rows(request, ORDERS_OF_USER, user=user, limit=limit)})


async def show_profile(request: Request) -> Response:
    return enveloped(await row(request, PROFILE, **request.path_params))


async def change_profile(request: Request) -> Response:
    profile = msgspec.structs.asdict(await parsed(request, Profile))
    return enveloped(await row(request, CHANGE_PROFILE, **request.path_params, **profile))


async def refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)  # noqa: S101  # registered for nothing else
    return refusal(error.code, error.message, error.status)


class PartnersOnly:
    """Refuses calls that do not bear the partner's token."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._expected = f"Bearer {token}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            shown = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(shown, self._expected):
                return await refusal("unauthorized", "partners only", 401)(scope, receive, send)
        return await self._app(scope, receive, send)


ROUTES = [
    Route("/v2/fs/{merchant:int}/storefront", show_storefront),
    Route("/v2/fs/{merchant:int}/products", list_items),
    Route("/v2/fs/{merchant:int}/products/{item:int}", show_item),
    Route("/v2/fs/{merchant:int}/basket", show_basket),
    Route("/v2/fs/{merchant:int}/basket", add_to_basket, methods=["POST"]),
    Route("/v2/fs/{merchant:int}/order", place_order, methods=["POST"]),
    Route("/v2/fs/{merchant:int}/order/{order:int}", show_order),
    Route("/v2/fs/{merchant:int}/order/{order:int}/payment", pay, methods=["POST"]),
    Route("/v2/fs/{merchant:int}/order/{order:int}/invoice", show_invoice),
    Route("/v2/fs/{merchant:int}/payments/notices", notice, methods=["POST"]),
    Route("/v2/users/{user:int}/orders", orders_of_user),
    Route("/v2/users/{user:int}/profile", show_profile),
    Route("/v2/users/{user:int}/profile", change_profile, methods=["POST"]),
]


def create_app(*, dsn: str, token: str, provider_url: str, keys: Mapping[str, str], notice_base: str) -> Starlette:
    """The service on the database `dsn`, for the partner with `token`. `keys` are the provider's server keys by payee;
    the provider sends its notices to `notice_base`, the shops' public address."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[dict[str, Any]]:
        async with database(dsn) as pool, aiohttp.ClientSession() as session:
            yield {"pool": pool, "provider": Provider(session, provider_url, keys), "notice_base": notice_base}

    partners_only = Middleware(PartnersOnly, token=token)
    return Starlette(
        routes=ROUTES, lifespan=lifespan, middleware=[partners_only], exception_handlers={ApiError: refused}
    )
