"""Payments: begun once for an order, settled by the provider's notice, booked once."""

from typing import Any, Literal

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from demo.services.payments import Attempt, Charge, Notice, reference
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

PAYEE = "social"

LOCK_ORDER = """
    SELECT order_id, status, total_amount::bigint AS amount FROM orders
    WHERE order_id = %(order)s AND shop_id = %(shop)s AND buyer_id = %(buyer)s FOR UPDATE"""
CHARGE = """
    SELECT charge_id, order_id, payee, method, amount::bigint AS amount, provider_order_id, transaction_id,
           va_number, qr_string, status
    FROM charges WHERE order_id = %(order)s"""
NEW_CHARGE = """
    INSERT INTO charges (order_id, payee, method, amount, provider_order_id, status, create_time)
    VALUES (%(order)s, %(payee)s, %(method)s, %(amount)s, %(reference)s, 'pending', %(now)s)"""
CLAIM_KEY = """
    INSERT INTO idempotency (shop_id, key, kind, order_id, charge_id, create_time)
    VALUES (%(shop)s, %(key)s, 'payment', %(order)s, %(charge)s, %(now)s) ON CONFLICT DO NOTHING"""
KNOWN_KEY = "SELECT order_id FROM idempotency WHERE shop_id = %(shop)s AND key = %(key)s AND kind = 'payment'"
STORE_ANSWER = """
    UPDATE charges SET transaction_id = %(transaction)s, va_number = %(va)s, qr_string = %(qr)s
    WHERE charge_id = %(charge)s"""
CHARGE_OF_NOTICE = """
    SELECT payee, amount::bigint AS amount FROM charges JOIN orders USING (order_id)
    WHERE provider_order_id = %(reference)s AND shop_id = %(shop)s"""
SETTLE = """
    UPDATE charges SET status = 'settlement', settle_time = %(now)s
    WHERE provider_order_id = %(reference)s AND status = 'pending' RETURNING order_id, amount::bigint AS amount"""
MARK_PAID = """
    UPDATE orders SET status = 'AWAITING_SHIPMENT', paid_time = %(now)s
    WHERE order_id = %(order)s AND status = 'UNPAID'"""
BOOK = """
    INSERT INTO ledger (order_id, shop_id, event, account, debit, credit, create_time)
    VALUES (%(order)s, %(shop)s, 'SETTLEMENT', 'CLEARING', %(amount)s, 0, %(now)s),
           (%(order)s, %(shop)s, 'SETTLEMENT', 'SELLER_PAYABLE', 0, %(amount)s - %(fee)s, %(now)s),
           (%(order)s, %(shop)s, 'SETTLEMENT', 'PLATFORM_FEE', 0, %(fee)s, %(now)s)"""

FEE_PERCENT = 2


class Payment(msgspec.Struct):
    method: Literal["va", "qris"]


async def pay(request: Request) -> Response:
    """Begin the charge and show how to pay it. The provider is asked between two transactions, never inside one."""
    method, key = (await parsed(request, Payment)).method, idempotency_key(request)
    scope = {"shop": request.path_params["shop"], "order": request.path_params["order"]}
    async with transaction(request) as conn:
        charge = await _begin(conn, scope | {"buyer": number(request, "x-buyer-id")}, method, key)
    if charge["transaction_id"] is None:
        answered = await request.state.provider.charge(_attempt(request, charge))
        charge |= await _store(request, charge, answered)
    return answer(_shown(charge))


async def _begin(conn: Connection, scope: dict[str, Any], method: str, key: str) -> dict[str, Any]:
    order = only(await fetched(conn, LOCK_ORDER, **scope))
    charges = await fetched(conn, CHARGE, **scope)
    if not charges:
        if order["status"] != "UNPAID":
            raise ApiError(409, "not_payable", "the order does not wait for a payment")
        new = {"payee": PAYEE, "method": method, "amount": order["amount"], "reference": reference(order["order_id"])}
        await conn.execute(NEW_CHARGE, scope | new | {"now": now()})
        charges = await fetched(conn, CHARGE, **scope)
    await conn.execute(CLAIM_KEY, scope | {"key": key, "charge": charges[0]["charge_id"], "now": now()})
    known = only(await fetched(conn, KNOWN_KEY, key=key, **scope))
    if known["order_id"] != order["order_id"] or charges[0]["method"] != method:
        raise ApiError(409, "attempt_differs", "this attempt was begun with another order or method")
    return charges[0]


def _attempt(request: Request, charge: dict[str, Any]) -> Attempt:
    url = f"{request.state.notice_base}/api/shops/{request.path_params['shop']}/payments/notices"
    return Attempt(
        reference=charge["provider_order_id"],
        payee=charge["payee"],
        method=charge["method"],
        amount_idr=charge["amount"],
        notice_url=url,
    )


async def _store(request: Request, charge: dict[str, Any], answered: Charge) -> dict[str, Any]:
    kept = {"transaction": answered.transaction_id, "va": answered.va_number, "qr": answered.qr_string}
    async with transaction(request) as conn:
        await conn.execute(STORE_ANSWER, kept | {"charge": charge["charge_id"]})
    return {"va_number": answered.va_number, "qr_string": answered.qr_string}


def _shown(charge: dict[str, Any]) -> dict[str, Any]:
    shown = {"charge_id": str(charge["charge_id"]), "order_id": str(charge["order_id"])}
    how = "va_number" if charge["method"] == "va" else "qr_string"
    shown |= {"payment_type": charge["method"], how: charge[how], "gross_amount": f"{charge['amount']}.00"}
    return shown | {"transaction_status": charge["status"]}


async def notice(request: Request) -> Response:
    """Take the provider's word that a charge was paid; its second word changes nothing."""
    told, shop = await parsed(request, Notice), request.path_params["shop"]
    charge = await row(request, CHARGE_OF_NOTICE, reference=told.order_id, shop=shop)
    request.state.provider.refuse_forgery(told, charge["payee"], charge["amount"])
    if told.transaction_status == "settlement":
        async with transaction(request) as conn:
            await _settle(conn, shop, told.order_id)
    return answer({"ok": True})


async def _settle(conn: Connection, shop: int, charged: str) -> None:
    settled = await fetched(conn, SETTLE, reference=charged, now=now())
    for charge in settled:
        amount = charge["amount"]
        values = {"order": charge["order_id"], "shop": shop, "amount": amount, "now": now()}
        await conn.execute(MARK_PAID, values)
        await conn.execute(BOOK, values | {"fee": amount * FEE_PERCENT // 100})
