"""The part of Midtrans' Core API that shops need: charge, status, cancel, expire, refund, and signed notices.

The provider never charges an order twice, and never gives back more than it took. Errors are JSON with a `status_code`,
as all answers are. https://docs.midtrans.com/reference/code-4xx says what the codes mean.
"""

import hmac
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Annotated, Any, Literal
from zlib import crc32

import aiohttp
import anyio
import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from demo.services.payments import authorization
from demo.services.provider import records
from demo.services.provider.faults import Chance, Faults, Unanswered
from demo.services.provider.teller import Teller
from demo.services.web import ApiError, Row, Work, answer, database, db, parsed, service

LOOPBACK = frozenset({"127.0.0.1", "::1"})
Rupiah = Annotated[int, msgspec.Meta(gt=0)]


class Details(msgspec.Struct):
    order_id: str
    gross_amount: Rupiah


class NewCharge(msgspec.Struct):
    payment_type: Literal["bank_transfer", "qris"]
    transaction_details: Details


class NewRefund(msgspec.Struct):
    """Without an amount all that is left is given back; without a key it is a refund of its own."""

    refund_key: str | None = None
    amount: Rupiah | None = None
    reason: str = ""


def once(endpoint: Callable[[Request, str], Awaitable[Row]]) -> Callable[[Request], Awaitable[Response]]:
    """The endpoint under Midtrans' idempotency keys: the first success under a key is repeated for five minutes, at
    whatever endpoint and for whatever body it comes again."""

    async def keyed(request: Request) -> Response:
        asked = {"account": _account(request), "key": request.headers.get("idempotency-key")}
        running: set[tuple[str | None, ...]] = request.state.running
        attempt = tuple(asked.values())
        if attempt in running:
            return answer({"status_code": "202", "status_message": "the first request is still running"}, 202)
        if asked["key"] is not None:
            running.add(attempt)
        try:
            return await _answered(request, endpoint, asked)
        finally:
            running.discard(attempt)

    return keyed


async def _answered(request: Request, endpoint: Callable[[Request, str], Awaitable[Row]], asked: Row) -> Response:
    for known in await db(request).rows("answered", **asked):
        return _spoken(known["body"])
    body = await endpoint(request, asked["account"])
    if asked["key"] is not None:
        await db(request).rows("keep_answer", **asked, body=msgspec.json.encode(body).decode())
    return Unanswered() if _teller(request).chance.strikes("timeout_after_success") else _spoken(body)


def _spoken(body: Row) -> Response:
    return answer(body, 201 if body["status_code"] == "201" else 200)  # 407, expired, is no error


async def charge(request: Request, account: str) -> Row:
    asked, teller = await parsed(request, NewCharge), _teller(request)
    new = _new(request, account, asked) | {"paid_after_s": teller.patience_s()}
    if not await db(request).rows("new_charge", **new):
        raise ApiError(406, "406", "the order has been charged already")
    teller.settle_later(new["order"], new["paid_after_s"])
    made = records.shown(await db(request).row("charge", **new))
    return made | {"status_message": "Success, transaction is created"}


def _new(request: Request, account: str, asked: NewCharge) -> Row:
    order, amount = asked.transaction_details.order_id, asked.transaction_details.gross_amount
    digits = f"{crc32(order.encode()):010d}"
    transfer = asked.payment_type == "bank_transfer"
    return {
        "order": order,
        "account": account,
        "type": asked.payment_type,
        "amount": amount,
        "va": f"80777{digits}" if transfer else None,
        "qr": None if transfer else f"00020101021252045999530336054{len(str(amount)):02d}{amount}5802ID62{digits}",
        "url": request.headers.get("x-override-notification"),
    }


async def status(request: Request) -> Response:
    account = _account(request)
    found = await db(request).row("charge", account=account, **request.path_params)
    return answer(records.told(found, _teller(request).keys[account]))


async def cancel(request: Request, account: str) -> Row:
    return await _closed(request, account, "cancel") | {"status_message": "Success, transaction is canceled"}


async def expire(request: Request, account: str) -> Row:
    return await _closed(request, account, "expire") | {"status_message": "Success, transaction has expired"}


async def _closed(request: Request, account: str, state: str) -> Row:
    async def close(work: Work, found: Row) -> bool:
        _refuse_unless(found["transaction_status"] == "pending")
        await work.rows("move_on", order=found["order_id"], status=state)
        return True

    return records.shown(await _changed(request, account, close))


async def refund(request: Request, account: str) -> Row:
    """Give money back. Who repeats a refund's key has given it back once; without a key each call is one more."""
    asked = await parsed(request, NewRefund)
    key = asked.refund_key or str(uuid.uuid4())

    async def give_back(work: Work, found: Row) -> bool:
        if _refunds(found, key):
            return False
        left = found["gross_amount"] - found["refunded"]
        amount = left if asked.amount is None else asked.amount
        _refuse_unless(found["settlement_time"] is not None and 0 < amount <= left)
        new = {"order": found["order_id"], "key": key, "amount": amount, "reason": asked.reason}
        await work.rows("new_refund", **new)
        await work.rows("move_on", **new, status="refund" if amount == left else "partial_refund")
        return True

    made = await _changed(request, account, give_back)
    (given,) = _refunds(made, key)
    own = {name: given[name] for name in ("refund_chargeback_id", "refund_amount", "refund_key")}
    return records.shown(made) | own | {"status_message": "Success, refund request is approved"}


def _refunds(charge: Row, key: str) -> list[Row]:
    return [refund for refund in charge["refunds"] if refund["refund_key"] == key]


def _refuse_unless(possible: bool) -> None:
    if not possible:
        raise ApiError(412, "412", "the transaction's status cannot be changed like this")


async def _changed(request: Request, account: str, change: Callable[[Work, Row], Awaitable[bool]]) -> Row:
    """The charge after `change`, which runs under its lock; if that says so, there is something to tell."""
    teller = _teller(request)
    async with db(request).transaction() as work:
        found = await work.row("lock", account=account, **request.path_params)
        named = {"account": account, "order": found["order_id"]}
        changed = await change(work, await work.row("charge", **named))
        notices = [await teller.note(work, found["order_id"])] if changed else []
        after = await work.row("charge", **named)
    for notice in notices:
        teller.tell(notice)
    return after


async def set_faults(request: Request) -> Response:
    """From now on these go wrong; only for callers on this machine."""
    if request.client is None or request.client.host not in LOOPBACK:
        raise ApiError(403, "403", "only from this machine")
    faults = await parsed(request, Faults)
    _teller(request).chance = Chance(faults)
    return answer(faults)


def _teller(request: Request) -> Teller:
    teller: Teller = request.state.teller
    return teller


def _account(request: Request) -> str:
    """The account whose server key the caller shows as its user name."""
    given = request.headers.get("authorization", "").encode()
    for account, key in _teller(request).keys.items():
        if hmac.compare_digest(authorization(key).encode(), given):
            return account
    raise ApiError(401, "401", "the server key is not known")


ROUTES = [
    Route("/v2/charge", once(charge), methods=["POST"]),
    Route("/v2/{order}/status", status),
    Route("/v2/{order}/cancel", once(cancel), methods=["POST"]),
    Route("/v2/{order}/expire", once(expire), methods=["POST"]),
    Route("/v2/{order}/refund", once(refund), methods=["POST"]),
    Route("/v2/{order}/refund/online/direct", once(refund), methods=["POST"]),
    Route("/sandbox/faults", set_faults, methods=["POST"]),
]


def create_app(*, dsn: str, keys: Mapping[str, str], settle_after_s: float) -> Starlette:
    """The service on the database `dsn`; `keys` are the server keys of its accounts. Every charge is paid after
    `settle_after_s` seconds, unless its buyer is slow or it is ended before."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[dict[str, Any]]:
        async with (
            database(dsn, "provider") as opened,
            aiohttp.ClientSession() as session,
            anyio.create_task_group() as tasks,
        ):
            teller = Teller(opened, session, tasks, keys, settle_after_s)
            await teller.resume()
            yield {"db": opened, "teller": teller, "running": set()}
            tasks.cancel_scope.cancel()

    return service(ROUTES, lifespan, lambda error: {"status_code": str(error.status), "status_message": str(error)})
