"""The provider's last word about each charge, as its kept notices tell it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec

from alih.payments.midtrans import Notice
from alih.postgres.custody import Custody, Stored


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """A charge that was paid. `refunds` are (key, rupiah); `received_at` is when its last notice was kept, and
    `delivered` whether the owner has taken all of them."""

    tenant: str
    reference: str
    payee: str
    gross_idr: int
    settled_at: datetime
    refunds: tuple[tuple[str, int], ...]
    delivered: bool
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Words:
    """What the provider has signed."""

    custody: Custody

    async def settlements(self, since: datetime) -> Sequence[Settlement]:
        """One for each charge that a notice since then calls paid, whatever order the notices came in."""
        told: dict[tuple[str, str], Settlement] = {}
        for stored in await self.custody.stored(since):
            key = stored.tenant, stored.reference
            if (settlement := _settlement(stored, told.get(key))) is not None:
                told[key] = settlement
        return list(told.values())


def _settlement(stored: Stored, before: Settlement | None) -> Settlement | None:
    status = msgspec.json.decode(stored.body, type=Notice).status()
    if not status.settled:
        return before
    return Settlement(
        tenant=stored.tenant,
        reference=stored.reference,
        payee=stored.payee,
        gross_idr=status.gross_idr,
        settled_at=(before.settled_at if before else status.settled_at) or stored.received_at,
        # An early notice may be late: refunds that were told are not untold by it.
        refunds=tuple(sorted({*(before.refunds if before else ()), *status.refunds})),
        delivered=stored.delivered and (before is None or before.delivered),
        received_at=stored.received_at,
    )
