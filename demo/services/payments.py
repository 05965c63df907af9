"""How both shops talk to the payment provider (shapes as in Midtrans' Core API), and tell notices from forgeries."""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

import aiohttp
import msgspec

from demo.services.web import ApiError

_ALREADY_CHARGED = 406
_WITHIN = aiohttp.ClientTimeout(total=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt to collect an order's money. `reference` is computed from the order, so whoever repeats the
    attempt, on whichever side, repeats the same one. `payee` names the account that the money goes to."""

    reference: str
    payee: str
    method: str  # va | qris
    amount_idr: int
    notice_url: str


class VaNumber(msgspec.Struct):
    bank: str
    va_number: str


class Charge(msgspec.Struct):
    """The provider's answer, as far as the shops keep it."""

    transaction_id: str
    va_numbers: list[VaNumber] = []
    qr_string: str | None = None

    @property
    def va_number(self) -> str | None:
        return self.va_numbers[0].va_number if self.va_numbers else None


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
    return f"ORDER-{order_id}"


def authorization(server_key: str) -> str:
    """The header with which the account of that key shows itself to the provider."""
    return "Basic " + base64.b64encode(f"{server_key}:".encode()).decode()


def signature(order_id: str, status_code: str, gross_amount: str, server_key: str) -> str:
    return hashlib.sha512(f"{order_id}{status_code}{gross_amount}{server_key}".encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Provider:
    """The provider at `url`, with the server key of each payee."""

    session: aiohttp.ClientSession
    url: str
    keys: Mapping[str, str] = field(repr=False)

    async def charge(self, attempt: Attempt) -> Charge:
        """Begin to collect the money, or learn how far an earlier call of the same attempt came."""
        details = {"order_id": attempt.reference, "gross_amount": attempt.amount_idr}
        kind = {"va": "bank_transfer", "qris": "qris"}[attempt.method]
        headers = self._headers(attempt) | {"X-Override-Notification": attempt.notice_url}
        body = {"payment_type": kind, "transaction_details": details, "bank_transfer": {"bank": "bca"}}
        async with self.session.post(f"{self.url}/v2/charge", json=body, headers=headers, timeout=_WITHIN) as response:
            if response.status == _ALREADY_CHARGED:
                return await self.status(attempt)
            return await _charge(response)

    async def status(self, attempt: Attempt) -> Charge:
        path = f"{self.url}/v2/{attempt.reference}/status"
        async with self.session.get(path, headers=self._headers(attempt), timeout=_WITHIN) as response:
            return await _charge(response)

    def _headers(self, attempt: Attempt) -> dict[str, str]:
        return {"Authorization": authorization(self.keys[attempt.payee]), "Idempotency-Key": attempt.reference}

    def refuse_forgery(self, notice: Notice, payee: str, amount_idr: int) -> None:
        """Raise unless the payee's key signed this notice for exactly this amount."""
        expected = signature(notice.order_id, notice.status_code, notice.gross_amount, self.keys[payee])
        if not hmac.compare_digest(expected.encode(), notice.signature_key.encode()):
            raise ApiError(403, "bad_signature", "the signature does not match")
        if notice.gross_amount != f"{amount_idr}.00":
            raise ApiError(409, "amount_differs", "the amount is not the charge's")


async def _charge(response: aiohttp.ClientResponse) -> Charge:
    if response.status not in {200, 201}:
        raise ApiError(502, "payment_provider", "the payment provider does not answer as agreed")
    return msgspec.json.decode(await response.read(), type=Charge)
