"""Payments of the social channel: begun once for an order, settled by the provider's notice, booked once.

A charge that was begun before the move keeps its payee: its notice is verified with that payee's key.
"""

from typing import Any, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from demo.services.marketplace.shapes import enveloped
from demo.services.payments import Attempt, Charge, Notice, reference
from demo.services.web import ApiError, Connection, fetched, idempotency_key, number, only, parsed, row, transaction

PAYEE = "marketplace"
METHODS = {1: "va", 2: "qris"}

LOCK_ORDER = """
    SELECT order_id, status, amount_idr FROM trade_orders
    WHERE order_id = %(order)s AND merchant_id = %(merchant)s AND user_id = %(user)s AND channel = 'social'
    FOR UPDATE"""
PAYMENT = """
    SELECT payment_id, order_id, payee, method, payments.amount_idr, gateway_reference, gateway_transaction, va_number,
           qr_payload, state, social_shop_id
    FROM payments JOIN trade_orders USING (order_id) JOIN seller_bindings USING (merchant_id)
    WHERE order_id = %(order)s"""
NEW_PAYMENT = """
    INSERT INTO payments (order_id, payee, method, amount_idr, gateway_reference, state, created_at)
    VALUES (%(order)s, %(payee)s, %(method)s, %(amount)s, %(reference)s, 0, date_trunc('second', now()))"""
AWAIT_PAYMENT = "UPDATE trade_orders SET status = 103 WHERE order_id = %(order)s AND status = 100"
CLAIM_KEY = """
    INSERT INTO request_keys (merchant_id, request_key, kind, channel, order_id, payment_id, first_seen)
    VALUES (%(merchant)s, %(key)s, 'payment', 'social', %(order)s, %(payment)s, date_trunc('second', now()))
    ON CONFLICT DO NOTHING"""
KNOWN_KEY = """
    SELECT order_id FROM request_keys
    WHERE merchant_id = %(merchant)s AND request_key = %(key)s AND kind = 'payment'"""
STORE_ANSWER = """
    UPDATE payments SET gateway_transaction = %(transaction)s, va_number = %(va)s, qr_payload = %(qr)s
    WHERE payment_id = %(payment)s"""
PAYMENT_OF_NOTICE = """
    SELECT payee, payments.amount_idr FROM payments JOIN trade_orders USING (order_id)
    WHERE gateway_reference = %(reference)s AND merchant_id = %(merchant)s"""
SETTLE = """
    UPDATE payments SET state = 2, settled_at = date_trunc('second', now())
    WHERE gateway_reference = %(reference)s AND state = 0 RETURNING order_id, amount_idr"""
MARK_PAID = """
    UPDATE trade_orders SET status = 220, paid_at = date_trunc('second', now())
    WHERE order_id = %(order)s AND status IN (100, 103)"""
BOOK = """
    INSERT INTO journal_entries (order_id, merchant_id, channel, event, account, side, amount_idr, booked_at)
    SELECT %(order)s, %(merchant)s, 'social', 10, account, side, amount, date_trunc('second', now())
    FROM (VALUES (1100, 1, %(amount)s), (2100, 2, %(amount)s - %(fee)s), (4100, 2, %(fee)s))
         AS entry (account, side, amount)"""

FEE_PERCENT = 2


class Payment(msgspec.Struct):
    method: Literal["1", "2"]  # partners send codes as text


async def pay(request: Request) -> Response:
    """Begin the charge and show how to pay it. The provider is asked between two transactions, never inside one."""
    method, key = int((await parsed(request, Payment)).method), idempotency_key(request)
    async with transaction(request) as conn:
        scope = request.path_params | {"user": number(request, "x-user-id")}
        payment = await _begin(conn, scope, method, key)
    if payment["gateway_transaction"] is None:
        answered = await request.state.provider.charge(_attempt(request, payment))
        payment |= await _store(request, payment, answered)
    return enveloped(_shown(payment))


async def _begin(conn: Connection, scope: dict[str, Any], method: int, key: str) -> dict[str, Any]:
    order = only(await fetched(conn, LOCK_ORDER, **scope))
    found = await fetched(conn, PAYMENT, **scope)
    if not found:
        if order["status"] not in {100, 103}:
            raise ApiError(409, "not_payable", "the order does not wait for a payment")
        new = {"payee": PAYEE, "method": method, "amount": order["amount_idr"]}
        await conn.execute(NEW_PAYMENT, scope | new | {"reference": reference(order["order_id"])})
        await conn.execute(AWAIT_PAYMENT, scope)
        found = await fetched(conn, PAYMENT, **scope)
    await conn.execute(CLAIM_KEY, scope | {"key": key, "payment": found[0]["payment_id"]})
    known = only(await fetched(conn, KNOWN_KEY, key=key, **scope))
    if known["order_id"] != order["order_id"] or found[0]["method"] != method:
        raise ApiError(409, "attempt_differs", "this attempt was begun with another order or method")
    return found[0]


def _attempt(request: Request, payment: dict[str, Any]) -> Attempt:
    url = f"{request.state.notice_base}/api/shops/{payment['social_shop_id']}/payments/notices"
    return Attempt(
        reference=payment["gateway_reference"],
        payee=payment["payee"],
        method=METHODS[payment["method"]],
        amount_idr=payment["amount_idr"],
        notice_url=url,
    )


async def _store(request: Request, payment: dict[str, Any], answered: Charge) -> dict[str, Any]:
    kept = {"transaction": answered.transaction_id, "va": answered.va_number, "qr": answered.qr_string}
    async with transaction(request) as conn:
        await conn.execute(STORE_ANSWER, kept | {"payment": payment["payment_id"]})
    return {"va_number": answered.va_number, "qr_payload": answered.qr_string}


def _shown(payment: dict[str, Any]) -> dict[str, Any]:
    how = "va_number" if METHODS[payment["method"]] == "va" else "qr_payload"
    return {name: payment[name] for name in ("payment_id", "order_id", "method", how, "amount_idr", "state")}


async def notice(request: Request) -> Response:
    """Take the provider's word that a charge was paid; its second word changes nothing."""
    told, merchant = await parsed(request, Notice), request.path_params["merchant"]
    payment = await row(request, PAYMENT_OF_NOTICE, reference=told.order_id, merchant=merchant)
    request.state.provider.refuse_forgery(told, payment["payee"], payment["amount_idr"])
    if told.transaction_status == "settlement":
        async with transaction(request) as conn:
            await _settle(conn, merchant, told.order_id)
    return enveloped({"ok": True})


async def _settle(conn: Connection, merchant: int, charged: str) -> None:
    settled = await fetched(conn, SETTLE, reference=charged)
    for payment in settled:
        amount = payment["amount_idr"]
        await conn.execute(MARK_PAID, {"order": payment["order_id"]})
        booking = {"order": payment["order_id"], "merchant": merchant, "amount": amount}
        await conn.execute(BOOK, booking | {"fee": amount * FEE_PERCENT // 100})
