"""How both shops talk to the payment provider (shapes as in Midtrans' Core API), and tell notices from forgeries."""

import asyncio
import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

import aiohttp
import msgspec

from demo.services.web import ApiError, Row

PAID = frozenset({"settlement", "partial_refund", "refund"})
REFUNDED = PAID - {"settlement"}
GIVEN_UP = frozenset({"cancel", "expire"})
_RUNNING, _PATIENCE = 202, 20
_REFUSALS = frozenset({400, 404, 412})
_WITHIN = aiohttp.ClientTimeout(total=10)

Amount = Annotated[str, msgspec.Meta(pattern=r"^\d{1,15}(\.00?)?$")]
"""Whole rupiah as text."""


class VaNumber(msgspec.Struct):
    bank: str
    va_number: str


class Refund(msgspec.Struct):
    refund_key: str
    refund_amount: Amount
    reason: str = ""


class Charge(msgspec.Struct):
    """The provider's record, as far as the shops read it."""

    transaction_id: str
    va_numbers: list[VaNumber] = []
    qr_string: str | None = None
    refunds: list[Refund] = []


class Notice(msgspec.Struct):
    """What the provider sends when a charge changes."""

    order_id: str
    status_code: str
    gross_amount: str
    signature_key: str
    transaction_status: str
    transaction_id: str


def payees(text: str) -> dict[str, str]:
    """Server keys by payee, from `social=KEY,marketplace=KEY`."""
    pairs = (pair.partition("=") for pair in text.split(","))
    return {payee: key for payee, _, key in pairs}


def reference(order_id: int) -> str:
    """What the provider calls the order's charge: whoever repeats an attempt, on either side, repeats the same one."""
    return f"ORDER-{order_id}"


def rupiah(amount: Amount) -> int:
    return int(amount.partition(".")[0])


def authorization(server_key: str) -> str:
    """The header with which the account of that key shows itself to the provider."""
    return "Basic " + base64.b64encode(f"{server_key}:".encode()).decode()


def signature(order_id: str, status_code: str, gross_amount: str, server_key: str) -> str:
    return hashlib.sha512(f"{order_id}{status_code}{gross_amount}{server_key}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Provider:
    """The provider at `url`, with the server key of each payee; its notices go to `notice_base`."""

    session: aiohttp.ClientSession
    url: str
    keys: Mapping[str, str] = field(repr=False)
    notice_base: str

    async def charge(self, charge: Row) -> Row:
        """Begin to collect the charge's money, or learn how far an earlier call came; what the shop keeps of it."""
        called = charge["reference"]
        notices = f"{self.notice_base}/api/shops/{charge['shop_id']}/payments/notices"
        headers = {"Idempotency-Key": called, "X-Override-Notification": notices}
        body = {
            "payment_type": {"va": "bank_transfer", "qris": "qris"}[charge["pays_by"]],
            "transaction_details": {"order_id": called, "gross_amount": charge["amount"]},
            "bank_transfer": {"bank": "bca"},
        }
        status, answered = await self._call(charge, "POST", "/v2/charge", body, headers)
        # Charged before, or no answer, which does not say whether it was done: the record knows.
        made = _read(answered) if status in {200, 201} else await self._record(charge)
        va_number = made.va_numbers[0].va_number if made.va_numbers else None
        return {"transaction_id": made.transaction_id, "va_number": va_number, "qr_string": made.qr_string}

    async def refund(self, charge: Row, refund: Row) -> bool:
        """Give money back, once however often it is asked for; whether the provider did."""
        body = {"refund_key": refund["refund_key"], "amount": refund["amount"], "reason": refund["reason"]}
        path = f"/v2/{charge['reference']}/refund"
        status, _ = await self._call(charge, "POST", path, body, {"Idempotency-Key": refund["refund_key"]})
        if status in _REFUSALS:
            return False
        if status == 200 or refund["refund_key"] in {made.refund_key for made in await self.refunds(charge)}:
            return True
        raise _unclear()

    async def refunds(self, charge: Row) -> list[Refund]:
        """All that was given back of the charge, in the provider's own record."""
        return (await self._record(charge)).refunds

    async def _record(self, charge: Row) -> Charge:
        status, answered = await self._call(charge, "GET", f"/v2/{charge['reference']}/status", None, {})
        if status != 200:
            raise _unclear()
        return _read(answered)

    async def _call(self, charge: Row, method: str, path: str, body: Row | None, headers: Row) -> tuple[int, bytes]:
        """Status and body of the answer, after whoever was first with this key has theirs."""
        for _ in range(_PATIENCE):
            status, answered = await self._call_once(charge, method, path, body, headers)
            if status != _RUNNING:
                return status, answered
            await asyncio.sleep(0.05)
        return 0, b""

    async def _call_once(
        self, charge: Row, method: str, path: str, body: Row | None, headers: Row
    ) -> tuple[int, bytes]:
        """Status 0 if there was no answer, or not all of it."""
        own = {"Authorization": authorization(self.keys[charge["payee"]])} | headers
        try:
            async with self.session.request(
                method, f"{self.url}{path}", json=body, headers=own, timeout=_WITHIN
            ) as response:
                return response.status, await response.read()
        except (aiohttp.ClientError, TimeoutError):
            return 0, b""

    def refuse_forgery(self, notice: Notice, payee: str, amount_idr: int) -> None:
        """Raise unless the payee's key signed this notice for exactly this amount."""
        expected = signature(notice.order_id, notice.status_code, notice.gross_amount, self.keys[payee])
        if not hmac.compare_digest(expected.encode(), notice.signature_key.encode()):
            raise ApiError(403, "bad_signature", "the signature does not match")
        if notice.gross_amount != f"{amount_idr}.00":
            raise ApiError(409, "amount_differs", "the amount is not the charge's")


def _read(answered: bytes) -> Charge:
    return msgspec.json.decode(answered, type=Charge)


def _unclear() -> ApiError:
    return ApiError(502, "payment_provider", "the payment provider does not answer as agreed")
