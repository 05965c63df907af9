"""Baskets and orders of the social channel; placing an order is one transaction."""

from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from demo.services.marketplace.shapes import ORDER, enveloped, order_shown
from demo.services.web import ApiError, Connection, fetched, idempotency_key, number, only, parsed, row, transaction

BASKET = """
    SELECT coalesce(json_agg(json_build_object('item_id', item_id, 'title', title, 'qty', qty, 'price_idr', price_idr)
                             ORDER BY item_id), '[]') AS items,
           coalesce(sum(price_idr * qty), 0)::bigint AS amount_idr
    FROM basket_items JOIN catalog_items USING (item_id)
    WHERE user_id = %(user)s AND basket_items.merchant_id = %(merchant)s AND basket_items.channel = 'social'"""
ADD = """
    INSERT INTO basket_items (user_id, merchant_id, item_id, channel, qty, added_at)
    SELECT user_id, merchant_id, item_id, catalog_items.channel, %(qty)s, date_trunc('second', now())
    FROM catalog_items, users
    WHERE item_id = %(item)s AND merchant_id = %(merchant)s AND catalog_items.channel = 'social' AND state = 1
      AND user_id = %(user)s
    ON CONFLICT (user_id, merchant_id, item_id) DO UPDATE SET qty = least(basket_items.qty + excluded.qty, 99)
    RETURNING item_id"""
CLAIM_KEY = """
    INSERT INTO request_keys (merchant_id, request_key, kind, channel, order_id, first_seen)
    SELECT merchant_id, %(key)s, 'checkout', 'social', nextval('trade_orders_order_id_seq'), date_trunc('second', now())
    FROM social_storefronts WHERE merchant_id = %(merchant)s
    ON CONFLICT DO NOTHING RETURNING order_id"""
KNOWN_KEY = """
    SELECT order_id FROM request_keys
    WHERE merchant_id = %(merchant)s AND request_key = %(key)s AND kind = 'checkout'"""
TAKE_BASKET = """
    DELETE FROM basket_items USING catalog_items
    WHERE user_id = %(user)s AND basket_items.merchant_id = %(merchant)s AND basket_items.channel = 'social'
      AND catalog_items.item_id = basket_items.item_id
    RETURNING basket_items.item_id, title, qty, price_idr"""
RESERVE = "UPDATE inventory SET available = available - %(qty)s WHERE item_id = %(item_id)s AND available >= %(qty)s"
NEW_ORDER = """
    INSERT INTO trade_orders (order_id, merchant_id, channel, user_id, status, amount_idr, recipient_name,
                              recipient_phone, recipient_street, recipient_city, created_at)
    VALUES (%(order)s, %(merchant)s, 'social', %(user)s, 100, %(amount)s, %(name)s, %(phone)s, %(street)s, %(city)s,
            date_trunc('second', now()))"""
NEW_ITEM = """
    INSERT INTO trade_order_items (order_id, position, item_id, title, qty, price_idr)
    VALUES (%(order)s, %(position)s, %(item_id)s, %(title)s, %(qty)s, %(price_idr)s)"""


class BasketItem(msgspec.Struct):
    item_id: int
    qty: int


class Recipient(msgspec.Struct):
    name: str
    phone: str
    street: str
    city: str


class NewOrder(msgspec.Struct):
    recipient: Recipient


async def show_basket(request: Request) -> Response:
    merchant, user = request.path_params["merchant"], number(request, "x-user-id")
    return enveloped(await row(request, BASKET, merchant=merchant, user=user))


async def add_to_basket(request: Request) -> Response:
    item, user = await parsed(request, BasketItem), number(request, "x-user-id")
    merchant = request.path_params["merchant"]
    if not 1 <= item.qty <= 99:
        raise ApiError(400, "bad_request", "one product, 1 to 99 pieces")
    async with transaction(request) as conn:
        only(await fetched(conn, ADD, merchant=merchant, user=user, item=item.item_id, qty=item.qty))
        basket = only(await fetched(conn, BASKET, merchant=merchant, user=user))
    return enveloped(basket)


async def show_order(request: Request) -> Response:
    return enveloped(order_shown(await row(request, ORDER, user=number(request, "x-user-id"), **request.path_params)))


async def place_order(request: Request) -> Response:
    merchant, user, key = request.path_params["merchant"], number(request, "x-user-id"), idempotency_key(request)
    recipient = (await parsed(request, NewOrder)).recipient
    async with transaction(request) as conn:
        # Another attempt under the same key waits here until the first one has ended, one way or the other.
        claimed = await fetched(conn, CLAIM_KEY, merchant=merchant, key=key)
        known = claimed or await fetched(conn, KNOWN_KEY, merchant=merchant, key=key)
        order = {"merchant": merchant, "user": user, "order": only(known)["order_id"]}
        if claimed:
            await _place(conn, order, recipient)
        placed = only(await fetched(conn, ORDER, **order))
    return enveloped(order_shown(placed), 201)


async def _place(conn: Connection, order: dict[str, Any], recipient: Recipient) -> None:
    lines = await fetched(conn, TAKE_BASKET, **order)
    if not lines:
        raise ApiError(409, "cart_empty", "there is nothing in the cart")
    lines.sort(key=lambda line: line["item_id"])  # everybody locks the inventory in the same order
    await _reserve(conn, lines)
    amount = sum(line["price_idr"] * line["qty"] for line in lines)
    await conn.execute(NEW_ORDER, order | msgspec.structs.asdict(recipient) | {"amount": amount})
    numbered = [order | line | {"position": position} for position, line in enumerate(lines, 1)]
    await conn.cursor().executemany(NEW_ITEM, numbered)


async def _reserve(conn: Connection, lines: list[dict[str, Any]]) -> None:
    cursor = conn.cursor()
    await cursor.executemany(RESERVE, lines)
    if cursor.rowcount != len(lines):
        raise ApiError(409, "out_of_stock", "there is not enough left of something in the cart")
