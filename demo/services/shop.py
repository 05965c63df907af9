"""What both shops do alike, each in the SQL of its own schema: carts, orders, payments, invoices.

The queries speak one language: `shop`, `buyer`, `product`, `order`, `key` go in; a cart's lines and a charge come out.
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from jinja2 import Environment, FileSystemLoader
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from demo.services.payments import (
    GIVEN_UP,
    PAID,
    REFUNDED,
    Notice,
    Provider,
    Refund,
    payees,
    reference,
    rupiah,
)
from demo.services.web import ApiError, Row, Work, database, db, parsed

FEE_PERCENT = 2
_templates = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True)


class Address(msgspec.Struct):
    name: str
    phone: str
    street: str
    city: str


def settings(dsn: str) -> dict[str, Any]:
    """What a shop is started with, from the environment; `dsn` names the variable of its database."""
    return {
        "dsn": os.environ[dsn],
        "provider_url": os.environ["PROVIDER_URL"],
        "keys": payees(os.environ["PAYEE_KEYS"]),
        "notice_base": os.environ["NOTICE_BASE"],
    }


@asynccontextmanager
async def opened(
    shop: str,
    buyer_header: str,
    operator: str,
    *,
    dsn: str,
    provider_url: str,
    keys: Mapping[str, str],
    notice_base: str,
) -> AsyncIterator[dict[str, Any]]:
    """A shop's state on the database `dsn`. `keys` are the provider's server keys by payee; the provider sends its
    notices to `notice_base`, the shops' public address."""
    async with database(dsn, shop, operator=operator) as opened, aiohttp.ClientSession() as session:
        provider = Provider(session, provider_url, keys, notice_base)
        yield {"db": opened, "provider": provider, "buyer_header": buyer_header}


def buying(request: Request) -> Row:
    """The path's ids and the buyer's; refuses a request that names no buyer."""
    buyer = request.headers.get(request.state.buyer_header, "")
    if not buyer.isascii() or not buyer.isdigit():
        raise ApiError(401, "unauthorized", "nobody is named as the one who asks")
    return {**request.path_params, "buyer": int(buyer)}


def path(request: Request) -> Row:
    return request.path_params


def shown(
    query: str, show: Callable[[Row], Response], scope: Callable[[Request], Row] = path
) -> Callable[[Request], Awaitable[Response]]:
    """An endpoint that shows the one row that the query finds."""

    async def endpoint(request: Request) -> Response:
        return show(await db(request).row(query, **scope(request)))

    return endpoint


async def invoice(request: Request) -> Response:
    """The page that proves a purchase; it names who processed it and shows nothing of the buyer."""
    facts = await db(request).row("invoice", **request.path_params)
    facts["amount"] = f"{facts['amount_idr']:,}".replace(",", ".")
    return HTMLResponse(_templates.get_template("invoice.html").render(facts))


async def put_into_cart(request: Request, cart: Row, product: int, quantity: int) -> Row:
    """Put pieces of a product into the cart; the cart then."""
    if not 1 <= quantity <= 99:
        raise ApiError(400, "bad_request", "one product, 1 to 99 pieces")
    async with db(request).transaction() as work:
        await work.row("add", **cart, product=product, quantity=quantity)
        return await work.row("cart", **cart)


async def check_out(request: Request, asked: Row, address: Address) -> Row:
    """The order that this key stands for. It is one transaction: the key, the cart, the stock, the order, or none."""
    async with db(request).transaction() as work:
        # Another attempt under the same key waits here until the first one has ended, one way or the other.
        claimed = await work.rows("claim_checkout", **asked)
        known = claimed[0] if claimed else await work.row("known_checkout", **asked)
        order = {**asked, "order": known["order_id"]}
        if claimed:
            await _place(work, order, address)
        return await work.row("order", **order)


async def _place(work: Work, order: Row, address: Address) -> None:
    lines = await work.rows("take_cart", **order)
    if not lines:
        raise ApiError(409, "cart_empty", "there is nothing in the cart")
    lines.sort(key=lambda line: line["product_id"])  # everybody locks stock in the same order
    if await work.each("take_stock", lines) != len(lines):
        raise ApiError(409, "out_of_stock", "there is not enough left of something in the cart")
    total = sum(line["price"] * line["quantity"] for line in lines)
    await work.rows("new_order", **order, **msgspec.structs.asdict(address), total=total)
    await work.each("new_line", [{**order, **line, "line": number} for number, line in enumerate(lines, 1)])


def idempotency_key(request: Request) -> str:
    key = request.headers.get("idempotency-key", "")
    if not 1 <= len(key) <= 100:
        raise ApiError(400, "bad_request", "Idempotency-Key is missing")
    return key


async def pay(request: Request, method: str | int) -> Row:
    """The order's charge, begun once. The provider is asked between two transactions, never inside one."""
    asked = {"key": idempotency_key(request), **buying(request), "method": method}
    async with db(request).transaction() as work:
        charge = await _begin(work, asked)
    if charge["transaction_id"] is None:
        charge |= await request.state.provider.charge(charge)
        await db(request).rows("store_answer", **charge)
    return charge


async def _begin(work: Work, asked: Row) -> Row:
    order = await work.row("lock_order", **asked)
    if not await work.rows("charge", **asked):
        if not order["payable"]:
            raise ApiError(409, "not_payable", "the order does not wait for a payment")
        await work.rows("new_charge", **asked, amount=order["amount"], reference=reference(order["order_id"]))
    charge = await work.row("charge", **asked)
    await work.rows("claim_payment", **asked, charge=charge["charge_id"])
    known = await work.row("known_payment", **asked)
    if (known["order_id"], charge["method"]) != (order["order_id"], asked["method"]):
        raise ApiError(409, "attempt_differs", "this attempt was begun with another order or method")
    return charge


async def refund(request: Request, amount_idr: int, reason: str) -> Row:
    """A refund of a part or all of what was paid, given once under its key; never more than was paid. `status` and
    `amount` are as the shop's schema has them."""
    asked = {"key": idempotency_key(request), **buying(request), "amount": amount_idr, "reason": reason}
    async with db(request).transaction() as work:
        charge, begun = await _begin_refund(work, asked)
    if begun["pending"]:
        given = await request.state.provider.refund(charge, begun)
        async with db(request).transaction() as work:
            await work.row("lock_order", **asked)
            if given:
                await _give_back(work, charge, [Refund(begun["refund_key"], str(begun["amount"]), begun["reason"])])
            else:
                await work.rows("refuse_refund", **begun)
            begun = await work.row("known_refund", **asked)
    return begun


async def _begin_refund(work: Work, asked: Row) -> tuple[Row, Row]:
    # Whoever changes what was paid or given back locks the order first: two at once never give back too much.
    await work.row("lock_order", **asked)
    charge = await work.row("charge", **asked)
    if not await work.rows("known_refund", **asked):
        if not charge["paid"] or not 0 < asked["amount"] <= charge["amount"] - charge["promised"]:
            raise ApiError(409, "not_refundable", "this is more than was paid and not yet given back")
        await work.rows("new_refund", **asked)
    known = await work.row("known_refund", **asked)
    if (known["order_id"], known["amount"]) != (charge["order_id"], asked["amount"]):
        raise ApiError(409, "attempt_differs", "this attempt was begun with another order or amount")
    return charge, known


async def take_notice(request: Request) -> Row:
    """Take the provider's word that a charge was paid, given back or given up, in whatever order its words come; its
    second word changes nothing.

    A charge that was begun before the move keeps its payee: its notice is verified with that payee's key. The signature
    does not cover refunds, so a notice of one is only a reason to look into the provider's own record.
    """
    told, provider = await parsed(request, Notice), request.state.provider
    charge = await db(request).row("charge_of_notice", **request.path_params, reference=told.order_id)
    provider.refuse_forgery(told, charge["payee"], charge["amount"])
    refunds = await provider.refunds(charge) if told.transaction_status in REFUNDED else []
    async with db(request).transaction() as work:
        await work.row("lock_sale", **charge)
        if told.transaction_status in PAID:
            await _settle(work, charge)
            await _give_back(work, charge, refunds)
        elif told.transaction_status in GIVEN_UP:
            await work.rows("give_up", **charge, expired=told.transaction_status == "expire")
    return {"ok": True}


async def _settle(work: Work, charge: Row) -> None:
    if await work.rows("settle", **charge):
        await work.rows("mark_paid", **charge)
        await work.rows("book", **charge, fee=fee(charge["amount"]))


async def _give_back(work: Work, charge: Row, refunds: Sequence[Refund]) -> None:
    """Write down the refunds that are not, each with its share of the fee, so that all shares make up the fee."""
    total, back = charge["amount"], (await work.row("given_back", **charge))["given_back"]
    for refund in refunds:
        values = {"refund_key": refund.refund_key, "amount": rupiah(refund.refund_amount), "reason": refund.reason}
        for new in await work.rows("settle_refund", **charge | values):
            share = fee(total) * (back + values["amount"]) // total - fee(total) * back // total
            back += values["amount"]
            await work.rows("book_refund", **charge | values | new, fee=share)
            await work.rows("mark_refunded", **charge, whole=back == total)


def fee(amount_idr: int) -> int:
    """The platform's part of a payment, in whole rupiah."""
    return amount_idr * FEE_PERCENT // 100
