"""Charges, their status, and notices to whoever asked for them.

A charge is told about until its notice is answered with 200, also after a restart; the provider never charges an
order twice.
"""

import hmac
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta, timezone
from typing import Any, Literal
from zlib import crc32

import aiohttp
import anyio
import msgspec
from anyio.abc import TaskGroup
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from demo.services.payments import authorization, signature
from demo.services.web import ApiError, Database, answer, database, db, parsed, service

RETRIES_S = (0.2, 0.5, 1, 2, 3, 5, 5, 10, 10, 20, 30)
JAKARTA = timezone(timedelta(hours=7))
_WITHIN = aiohttp.ClientTimeout(total=15)


class Details(msgspec.Struct):
    order_id: str
    gross_amount: int


class NewCharge(msgspec.Struct):
    payment_type: Literal["bank_transfer", "qris"]
    transaction_details: Details


@dataclass(frozen=True, slots=True)
class Teller:
    """Settles charges and tells the shops. `keys` are the server keys by account."""

    db: Database
    session: aiohttp.ClientSession
    tasks: TaskGroup
    keys: Mapping[str, str]
    settle_after_s: float

    async def tell(self, order: str) -> None:
        """Settle the charge after a moment, then send its notice until somebody takes it."""
        await anyio.sleep(self.settle_after_s)
        charge = await self.db.row("settle", order=order)
        for pause_s in RETRIES_S:
            if await self._taken(charge):
                await self.db.rows("told", order=order)
                return
            await anyio.sleep(pause_s)

    async def _taken(self, charge: dict[str, Any]) -> bool:
        told = notice(charge, self.keys[charge["account"]])
        try:
            async with self.session.post(charge["notification_url"], json=told, timeout=_WITHIN) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False  # nobody there; the next attempt may meet somebody


def shown(charge: dict[str, Any], status_code: str) -> dict[str, Any]:
    """A charge as Midtrans spells it: numbers as strings, times of Jakarta."""
    answered = {
        "status_code": status_code,
        "transaction_id": str(charge["transaction_id"]),
        "order_id": charge["order_id"],
        "gross_amount": f"{charge['gross_amount']}.00",
        "currency": "IDR",
        "payment_type": charge["payment_type"],
        "transaction_status": charge["transaction_status"],
        "transaction_time": f"{charge['transaction_time'].astimezone(JAKARTA):%Y-%m-%d %H:%M:%S}",
        "fraud_status": "accept",
    }
    if charge["va_number"] is not None:
        return answered | {"va_numbers": [{"bank": "bca", "va_number": charge["va_number"]}]}
    picture = {"name": "generate-qr-code", "method": "GET", "url": f"/v2/qris/{charge['transaction_id']}/qr-code"}
    return answered | {"qr_string": charge["qr_string"], "actions": [picture]}


def notice(charge: dict[str, Any], server_key: str) -> dict[str, Any]:
    told = shown(charge, "200")
    return told | {"signature_key": signature(told["order_id"], "200", told["gross_amount"], server_key)}


async def charge_once(request: Request) -> Response:
    account, asked = _account(request), await parsed(request, NewCharge)
    key = request.headers.get("idempotency-key")
    known = await db(request).rows("known", key=key)
    if known:
        return answer(shown(known[0], "201"), 201)
    made = await db(request).rows("charge", key=key, **_new(request, account, asked))
    if not made:
        raise ApiError(406, "406", "the order has been charged already")
    if made[0]["notification_url"]:
        teller: Teller = request.state.teller
        teller.tasks.start_soon(teller.tell, made[0]["order_id"])
    return answer(shown(made[0], "201"), 201)


def _new(request: Request, account: str, asked: NewCharge) -> dict[str, Any]:
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
    charge = await db(request).row("status", account=_account(request), **request.path_params)
    return answer(shown(charge, "200" if charge["transaction_status"] == "settlement" else "201"))


def _account(request: Request) -> str:
    """The account whose server key the caller shows as its user name."""
    given = request.headers.get("authorization", "").encode()
    teller: Teller = request.state.teller
    for account, key in teller.keys.items():
        if hmac.compare_digest(authorization(key).encode(), given):
            return account
    raise ApiError(401, "401", "the server key is not known")


def create_app(*, dsn: str, keys: Mapping[str, str], settle_after_s: float) -> Starlette:
    """The service on the database `dsn`; `keys` are the server keys of its accounts. Every charge is paid after
    `settle_after_s` seconds."""

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[dict[str, Any]]:
        async with (
            database(dsn, "provider") as opened,
            aiohttp.ClientSession() as session,
            anyio.create_task_group() as tasks,
        ):
            teller = Teller(opened, session, tasks, keys, settle_after_s)
            for charge in await opened.rows("untold"):
                tasks.start_soon(teller.tell, charge["order_id"])
            yield {"db": opened, "teller": teller}
            tasks.cancel_scope.cancel()

    routes = [Route("/v2/charge", charge_once, methods=["POST"]), Route("/v2/{order}/status", status)]
    return service(routes, lifespan, lambda error: {"status_code": error.code, "status_message": error.message})
