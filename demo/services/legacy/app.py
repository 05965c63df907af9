"""The shop's API as the front end knows it: ids and money as strings, times in Unix seconds."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from demo.services.invoice import invoice
from demo.services.legacy.checkout import add_to_cart, check_out, show_cart, show_order
from demo.services.legacy.payment import notice, pay
from demo.services.legacy.shapes import OPERATOR
from demo.services.payments import Provider
from demo.services.web import ApiError, answer, database, number, page_size, parsed, row, rows

SHOP = "SELECT shop_id::text, name, city, rating::text FROM shops WHERE shop_id = %(shop)s"
PRODUCTS = """
    SELECT product_id::text, title, price::text, on_hand AS stock, image
    FROM products JOIN stock USING (product_id)
    WHERE products.shop_id = %(shop)s AND status = 'ACTIVATE' ORDER BY product_id"""
PRODUCT = """
    SELECT product_id::text, title, description, price::text, on_hand AS stock, image
    FROM products JOIN stock USING (product_id)
    WHERE products.shop_id = %(shop)s AND product_id = %(product)s AND status = 'ACTIVATE'"""
INVOICE = """
    SELECT name AS shop, total_amount::bigint AS amount_idr, paid_time IS NOT NULL AS paid
    FROM orders JOIN shops USING (shop_id) WHERE shop_id = %(shop)s AND order_id = %(order)s"""
MY_ORDERS = """
    SELECT order_id::text, shop_id::text, status, total_amount::text FROM orders
    WHERE buyer_id = %(buyer)s ORDER BY create_time DESC, order_id DESC LIMIT %(limit)s"""
PROFILE = "SELECT buyer_id::text, name, phone, email, city FROM buyers WHERE buyer_id = %(buyer)s"
CHANGE_PROFILE = """
    UPDATE buyers SET name = %(name)s, phone = %(phone)s, email = %(email)s, city = %(city)s
    WHERE buyer_id = %(buyer)s RETURNING buyer_id::text, name, phone, email, city"""


class Profile(msgspec.Struct):
    name: str
    phone: str
    email: str
    city: str


async def show_shop(request: Request) -> Response:
    found = await row(request, SHOP, shop=request.path_params["shop"])
    return answer(found | {"processed_by": OPERATOR})


async def list_products(request: Request) -> Response:
    return answer({"products": await rows(request, PRODUCTS, shop=request.path_params["shop"])})


async def show_product(request: Request) -> Response:
    return answer(await row(request, PRODUCT, **request.path_params))


async def show_invoice(request: Request) -> Response:
    facts: dict[str, Any] = await row(request, INVOICE, **request.path_params)
    return invoice(order_id=request.path_params["order"], processed_by=OPERATOR, **facts)


async def my_orders(request: Request) -> Response:
    buyer, limit = number(request, "x-buyer-id"), page_size(request, "limit")
    return answer({"orders": await rows(request, MY_ORDERS, buyer=buyer, limit=limit)})


async def show_profile(request: Request) -> Response:
    return answer(await row(request, PROFILE, buyer=number(request, "x-buyer-id")))


async def change_profile(request: Request) -> Response:
    profile = msgspec.structs.asdict(await parsed(request, Profile))
    return answer(await row(request, CHANGE_PROFILE, buyer=number(request, "x-buyer-id"), **profile))


async def refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, ApiError)  # noqa: S101  # registered for nothing else
    return answer({"error": error.code, "message": error.message}, error.status)


ROUTES = [
    Route("/api/shops/{shop:int}", show_shop),
    Route("/api/shops/{shop:int}/products", list_products),
    Route("/api/shops/{shop:int}/products/{product:int}", show_product),
    Route("/api/shops/{shop:int}/cart/items", add_to_cart, methods=["POST"]),
    Route("/api/shops/{shop:int}/cart", show_cart),
    Route("/api/shops/{shop:int}/orders", check_out, methods=["POST"]),
    Route("/api/shops/{shop:int}/orders/{order:int}", show_order),
    Route("/api/shops/{shop:int}/orders/{order:int}/payment", pay, methods=["POST"]),
    Route("/api/shops/{shop:int}/orders/{order:int}/invoice", show_invoice),
    Route("/api/shops/{shop:int}/payments/notices", notice, methods=["POST"]),
    Route("/api/me/orders", my_orders),
    Route("/api/me/profile", show_profile),
    Route("/api/me/profile", change_profile, methods=["POST"]),
]


def create_app(*, dsn: str, provider_url: str, keys: Mapping[str, str], notice_base: str) -> Starlette:
    """The service on the database `dsn`. `keys` are the provider's server keys by payee; the provider sends its
    notices to `notice_base`, the shop's public address."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[dict[str, Any]]:
        async with database(dsn) as pool, aiohttp.ClientSession() as session:
            yield {"pool": pool, "provider": Provider(session, provider_url, keys), "notice_base": notice_base}

    return Starlette(routes=ROUTES, lifespan=lifespan, exception_handlers={ApiError: refused})
