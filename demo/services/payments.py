"""How both shops talk to the payment provider (shapes as in Midtrans' Core API), and tell notices from forgeries."""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

import aiohttp
import msgspec

from demo.services.web import ApiError, Row

_ALREADY_CHARGED = 406
_WITHIN = aiohttp.ClientTimeout(total=10)


class VaNumber(msgspec.Struct):
    bank: str
    va_number: str


class Charge(msgspec.Struct):
    """The provider's answer, as far as the shops keep it."""

    transaction_id: str
    va_numbers: list[VaNumber] = []
    qr_string: str | None = None


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
        own = {"Authorization": authorization(self.keys[charge["payee"]]), "Idempotency-Key": called}
        notices = f"{self.notice_base}/api/shops/{charge['shop_id']}/payments/notices"
        body = {
            "payment_type": {"va": "bank_transfer", "qris": "qris"}[charge["pays_by"]],
            "transaction_details": {"order_id": called, "gross_amount": charge["amount"]},
            "bank_transfer": {"bank": "bca"},
        }
        headers = own | {"X-Override-Notification": notices}
        async with self.session.post(f"{self.url}/v2/charge", json=body, headers=headers, timeout=_WITHIN) as response:
            if response.status != _ALREADY_CHARGED:
                return await _kept(response)
        async with self.session.get(f"{self.url}/v2/{called}/status", headers=own, timeout=_WITHIN) as response:
            return await _kept(response)

    def refuse_forgery(self, notice: Notice, payee: str, amount_idr: int) -> None:
        """Raise unless the payee's key signed this notice for exactly this amount."""
        expected = signature(notice.order_id, notice.status_code, notice.gross_amount, self.keys[payee])
        if not hmac.compare_digest(expected.encode(), notice.signature_key.encode()):
            raise ApiError(403, "bad_signature", "the signature does not match")
        if notice.gross_amount != f"{amount_idr}.00":
            raise ApiError(409, "amount_differs", "the amount is not the charge's")


async def _kept(response: aiohttp.ClientResponse) -> Row:
    if response.status not in {200, 201}:
        raise ApiError(502, "payment_provider", "the payment provider does not answer as agreed")
    charge = msgspec.json.decode(await response.read(), type=Charge)
    va_number = charge.va_numbers[0].va_number if charge.va_numbers else None
    return {"transaction_id": charge.transaction_id, "va_number": va_number, "qr_string": charge.qr_string}
