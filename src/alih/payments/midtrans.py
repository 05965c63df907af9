"""Midtrans as alih meets it: what a notice says, who signed it, and what the provider says when it is asked.

https://docs.midtrans.com/docs/https-notification-webhooks (fields, `signature_key`) and /reference/get-status. Numbers
come as text ("145000.00"), times are those of Jakarta without a zone.
"""

import base64
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Annotated

import aiohttp
import msgspec

from alih.errors import NeedsOperator, Retryable
from alih.model.commerce import Payee
from alih.model.side import Side

SETTLED = frozenset({"settlement", "capture", "partial_refund", "refund"})
_JAKARTA = timezone(timedelta(hours=7))
_WITHIN = aiohttp.ClientTimeout(total=10)
_MOST_BYTES = 1024 * 1024


Amount = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,15}(\.00?)?\Z")]
"""Whole rupiah as text. Nothing else is read as a number: this is done before a signature is known to be good."""
Reference = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9._~-]{1,200}\Z")]


def rupiah(text: Amount) -> int:
    return int(text.partition(".")[0])


class RefundLine(msgspec.Struct):
    """One refund in a notice or a status."""

    refund_key: str
    refund_amount: Amount


class Notice(msgspec.Struct):
    """What the provider tells, in a notice or when it is asked; what else it says is passed on untouched."""

    order_id: Reference
    status_code: str
    gross_amount: Amount
    signature_key: str
    transaction_status: str
    transaction_id: str
    settlement_time: str | None = None
    refunds: list[RefundLine] = []

    def status(self) -> "Status":
        """Raises ValueError if its time is none."""
        moment = None
        if self.settlement_time is not None:
            moment = datetime.strptime(self.settlement_time, "%Y-%m-%d %H:%M:%S").replace(tzinfo=_JAKARTA)
        return Status(
            gross_idr=rupiah(self.gross_amount),
            state=self.transaction_status,
            settled_at=moment,
            refunds=tuple((line.refund_key, rupiah(line.refund_amount)) for line in self.refunds),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The provider's word about a charge. `refunds` are (key, rupiah)."""

    gross_idr: int
    state: str
    settled_at: datetime | None
    refunds: tuple[tuple[str, int], ...]

    @property
    def settled(self) -> bool:
        return self.state in SETTLED

    @property
    def refunded_idr(self) -> int:
        return sum(amount for _, amount in self.refunds)


def signature(order_id: str, status_code: str, gross_amount: str, key: str) -> str:
    """SHA512(order_id + status_code + gross_amount + server key), in hex."""
    return hashlib.sha512(f"{order_id}{status_code}{gross_amount}{key}".encode()).hexdigest()


def signed_by(notice: Notice, payees: Mapping[Side, Payee]) -> Payee | None:
    """The account whose key signed the notice; every key is tried, in constant time each."""
    found = None
    for payee in payees.values():
        expected = signature(notice.order_id, notice.status_code, notice.gross_amount, payee.key)
        if hmac.compare_digest(expected.encode(), notice.signature_key.encode()):
            found = payee
    return found


@dataclass(frozen=True, slots=True)
class Provider:
    """The provider's API at `api`, asked with the key of each account in `payees`."""

    session: aiohttp.ClientSession = field(repr=False)
    api: str
    payees: Mapping[Side, Payee]

    async def status(self, reference: str, payee: str) -> Status | None:
        """What the provider has of a charge; None if that account has no such charge. Raises Retryable while it cannot
        be asked."""
        told = await self.told(reference, payee)
        return None if told is None else _read(told)

    async def told(self, reference: str, payee: str) -> bytes | None:
        """The status as the provider wrote it: it is signed like a notice."""
        key = next((each.key for each in self.payees.values() if each.name == payee), None)
        if key is None:
            raise NeedsOperator(
                "a charge names a payee that the contract does not", remedy="name its account under payments.payees"
            )
        shown = "Basic " + base64.b64encode(f"{key}:".encode()).decode()
        url = f"{self.api}/v2/{reference}/status"
        try:
            async with self.session.get(
                url, headers={"Authorization": shown}, timeout=_WITHIN, allow_redirects=False
            ) as answer:
                content, status = await _whole(answer), answer.status
        except (aiohttp.ClientError, TimeoutError):
            raise _away() from None
        if status == 404 or _code(content) == "404":
            return None
        if status >= 300:
            raise _away()
        return content


async def _whole(answer: aiohttp.ClientResponse) -> bytes:
    content = b""
    async for part in answer.content.iter_any():
        content += part
        if len(content) > _MOST_BYTES:
            raise _away()
    return content


class _Code(msgspec.Struct):
    status_code: str


def _code(content: bytes) -> str:
    try:
        return msgspec.json.decode(content, type=_Code).status_code
    except ValueError:
        raise _away() from None


def _read(content: bytes) -> Status:
    try:
        return msgspec.json.decode(content, type=Notice).status()
    except ValueError:  # msgspec's errors are of that kind
        raise _away() from None


def _away() -> Retryable:
    return Retryable("the payment provider does not answer as agreed", remedy="try again when its API is well")
