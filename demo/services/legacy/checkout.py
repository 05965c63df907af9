"""Carts and orders. A checkout is one transaction: the key, the cart, the stock, the order, or none of them."""

from decimal import Decimal
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from demo.services.legacy.shapes import ORDER, order_shown
from demo.services.web import (
    ApiError,
    Connection,
    answer,
    fetched,
    idempotency_key,
    now,
    number,
    only,
    parsed,
    row,
    transaction,
)

CART = """
    SELECT coalesce(json_agg(json_build_object('product_id', product_id::text, 'title', title, 'quantity', quantity,
                                               'price', price::text) ORDER BY product_id), '[]') AS items,
           coalesce(sum(price * quantity), 0)::numeric(18,2)::text AS total_amount
    FROM carts JOIN products USING (product_id) WHERE buyer_id = %(buyer)s AND carts.shop_id = %(shop)s"""
ADD = """
    INSERT INTO carts (buyer_id, shop_id, product_id, quantity, add_time)
    SELECT buyer_id, shop_id, product_id, %(quantity)s, %(now)s FROM products, buyers
    WHERE product_id = %(product)s AND shop_id = %(shop)s AND status = 'ACTIVATE' AND buyer_id = %(buyer)s
    ON CONFLICT (buyer_id, shop_id, product_id)
    DO UPDATE SET quantity = least(carts.quantity + excluded.quantity, 99)
    RETURNING product_id"""
CLAIM_KEY = """
    INSERT INTO idempotency (shop_id, key, kind, order_id, create_time)
    SELECT shop_id, %(key)s, 'checkout', nextval('orders_order_id_seq'), %(now)s FROM shops WHERE shop_id = %(shop)s
    ON CONFLICT DO NOTHING RETURNING order_id"""
KNOWN_KEY = "SELECT order_id FROM idempotency WHERE shop_id = %(shop)s AND key = %(key)s AND kind = 'checkout'"
TAKE_CART = """
    DELETE FROM carts USING products
    WHERE carts.buyer_id = %(buyer)s AND carts.shop_id = %(shop)s AND products.product_id = carts.product_id
    RETURNING carts.product_id, title, quantity, price"""
TAKE_STOCK = """
    UPDATE stock SET on_hand = on_hand - %(quantity)s
    WHERE product_id = %(product_id)s AND on_hand >= %(quantity)s"""
NEW_ORDER = """
    INSERT INTO orders (order_id, shop_id, buyer_id, status, total_amount, address, create_time)
    VALUES (%(order)s, %(shop)s, %(buyer)s, 'UNPAID', %(total)s, %(address)s::jsonb, %(now)s)"""
NEW_LINE = """
    INSERT INTO order_lines (order_id, line_no, product_id, title, quantity, price)
    VALUES (%(order)s, %(line)s, %(product_id)s, %(title)s, %(quantity)s, %(price)s)"""


class Item(msgspec.Struct):
    product_id: str
    quantity: int


class Address(msgspec.Struct):
    name: str
    phone: str
    street: str
    city: str


class Checkout(msgspec.Struct):
    address: Address


async def show_cart(request: Request) -> Response:
    shop, buyer = request.path_params["shop"], number(request, "x-buyer-id")
    return answer(await row(request, CART, shop=shop, buyer=buyer))


async def add_to_cart(request: Request) -> Response:
    item, buyer = await parsed(request, Item), number(request, "x-buyer-id")
    shop = request.path_params["shop"]
    if not item.product_id.isdecimal() or not 1 <= item.quantity <= 99:
        raise ApiError(400, "bad_request", "one product, 1 to 99 pieces")
    async with transaction(request) as conn:
        values = {"product": int(item.product_id), "quantity": item.quantity, "now": now()}
        only(await fetched(conn, ADD, shop=shop, buyer=buyer, **values))
        cart = only(await fetched(conn, CART, shop=shop, buyer=buyer))
    return answer(cart)


async def show_order(request: Request) -> Response:
    found = await row(request, ORDER, buyer=number(request, "x-buyer-id"), **request.path_params)
    fields = ("order_id", "status", "total_amount", "items", "payment_status")
    return answer(order_shown(found, request.path_params["shop"], *fields))


async def check_out(request: Request) -> Response:
    shop, buyer, key = request.path_params["shop"], number(request, "x-buyer-id"), idempotency_key(request)
    address = (await parsed(request, Checkout)).address
    async with transaction(request) as conn:
        # Another attempt under the same key waits here until the first one has ended, one way or the other.
        claimed = await fetched(conn, CLAIM_KEY, shop=shop, key=key, now=now())
        known = claimed or await fetched(conn, KNOWN_KEY, shop=shop, key=key)
        order = {"shop": shop, "buyer": buyer, "order": only(known)["order_id"]}
        if claimed:
            await _place(conn, order, address)
        found = only(await fetched(conn, ORDER, **order))
    return answer(order_shown(found, shop, "order_id", "status", "total_amount", "create_time", "items"), 201)


async def _place(conn: Connection, order: dict[str, Any], address: Address) -> None:
    lines = await fetched(conn, TAKE_CART, **order)
    if not lines:
        raise ApiError(409, "cart_empty", "there is nothing in the cart")
    lines.sort(key=lambda line: line["product_id"])  # everybody locks stock in the same order
    await _take_stock(conn, lines)
    total = sum((line["price"] * line["quantity"] for line in lines), Decimal())
    written = msgspec.json.encode(address).decode()
    await conn.execute(NEW_ORDER, order | {"total": total, "address": written, "now": now()})
    numbered = [order | line | {"line": number} for number, line in enumerate(lines, 1)]
    await conn.cursor().executemany(NEW_LINE, numbered)


async def _take_stock(conn: Connection, lines: list[dict[str, Any]]) -> None:
    cursor = conn.cursor()
    await cursor.executemany(TAKE_STOCK, lines)
    if cursor.rowcount != len(lines):
        raise ApiError(409, "out_of_stock", "there is not enough left of something in the cart")
