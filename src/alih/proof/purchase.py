"""What a tried purchase has to show: the checks of a trial, by name.

steps     each click was answered as it had to be
price     shown = ordered = charged = settled, in rupiah
invoice   it is shown, where the shop is
hosts     nothing that was met names another host than the shop's own
payee     the charge is for the account of the tenant's owner at the time, and the provider has it there
ledger    the owner's ledger says what was charged and given back, and the other side's nothing else
provider  the provider says of charge and refunds what the owner says
refund    all of it was given back: as the shopper was told, at the provider, and in the books
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from alih.contract.trying import needed, scalar_text
from alih.model.commerce import TrialStep
from alih.proof.provenance import Status, ledger_link, provider_link
from alih.proof.sales import Placed
from alih.proof.shopper import Click, Shopper

_TOLD = ("shown", "ordered", "charged", "refunded")
_MOST_RUPIAH = 10**15


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing that has to hold, and if it does not, why."""

    name: str
    why: str | None = None

    @property
    def passed(self) -> bool:
        return self.why is None


@dataclass(frozen=True, slots=True)
class Bought:
    """What the shopper did and was told. `accounts` are those that the charge may be for: of the tenant's owner just
    before and just after it (they differ only if it flipped in between)."""

    shopper: Shopper
    clicks: tuple[Click, ...]
    accounts: frozenset[str]

    @property
    def smooth(self) -> bool:
        return all(click.why is None for click in self.clicks)

    @property
    def order(self) -> str | None:
        told = self.shopper.told.get("order")
        return None if told is None else scalar_text(told)

    @property
    def amounts(self) -> dict[str, int | None]:
        return {name: _rupiah(self.shopper.told.get(name)) for name in _TOLD}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the records said at one look."""

    payee: str | None = None
    settled_idr: int | None = None
    checks: tuple[Check, ...]


def _rupiah(told: Any) -> int | None:  # a JSON scalar
    """Whole rupiah, as an integer or as text such as "145000.00"."""
    if isinstance(told, bool) or not isinstance(told, int | str):
        return None
    try:
        amount = Decimal(told)
    except InvalidOperation:
        return None
    return int(amount) if amount.is_finite() and 0 <= amount < _MOST_RUPIAH and amount == int(amount) else None


def experienced(bought: Bought, found: Found, steps: Sequence[TrialStep]) -> Sequence[Check]:
    """What the shopper can tell, and that all amounts are one."""
    wrong = [f"{click.name}: {click.why}" for click in bought.clicks if click.why is not None]
    return (
        Check(name="steps", why="; ".join(wrong) or None),
        Check(name="price", why=_price(bought.amounts, found.settled_idr)),
        Check(name="invoice", why=_invoice(bought, steps)),
        Check(name="hosts", why=_hosts(bought.shopper)),
    )


def _price(told: Mapping[str, int | None], settled_idr: int | None) -> str | None:
    """Shown = ordered = charged = settled."""
    amounts = {name: told[name] for name in ("shown", "ordered", "charged")} | {"settled": settled_idr}
    if None not in amounts.values() and len(set(amounts.values())) == 1:
        return None
    return ", ".join(f"{name} {'nothing' if amount is None else amount}" for name, amount in amounts.items())


def _invoice(bought: Bought, steps: Sequence[TrialStep]) -> str | None:
    """The invoice is shown, where the shop is."""
    opening = {step.name for step in steps if "invoice" in needed(step)}
    click = next(click for click in bought.clicks if click.name in opening)
    if click.why is not None:
        return click.why
    return None if click.status is not None and 200 <= click.status <= 299 else f"answered {click.status}"


def _hosts(shopper: Shopper) -> str | None:
    others = sorted(shopper.hosts - {shopper.host})
    return f"names {', '.join(others)} besides the shop's own" if others else None


def unknown(why: str) -> Found:
    """Nothing is known of the records, so nothing of them holds."""
    return Found(checks=tuple(Check(name=name, why=why) for name in ("payee", "ledger", "provider", "refund")))


def judged(bought: Bought, placed: Placed, status: Status | None) -> Found:
    """The owner's records, the other side's, and the provider's, against one another."""
    if placed.sale is None or placed.sale.charge is None:
        return unknown("the owner has not recorded a charge")
    return Found(
        payee=placed.sale.payee,
        settled_idr=status.gross_idr if status is not None and status.settled else None,
        checks=(
            Check(name="payee", why=_payee(bought, placed, status)),
            Check(name="ledger", why=_ledger(placed)),
            Check(name="provider", why=provider_link(placed.sale, status).why),
            Check(name="refund", why=_refund(bought, placed, status)),
        ),
    )


def _payee(bought: Bought, placed: Placed, status: Status | None) -> str | None:
    if placed.sale is None or placed.sale.payee not in bought.accounts:
        return "the charge is for another account than that of the owner at the time"
    return "that account has no such charge at the provider" if status is None else None


def _ledger(placed: Placed) -> str | None:
    if placed.sale is not None and not placed.sale.settled:
        return "the owner has not recorded the payment"
    return ledger_link(placed).why


def _refund(bought: Bought, placed: Placed, status: Status | None) -> str | None:
    """All of it was given back: as the shopper was told, at the provider, and in the owner's books."""
    charged, told = bought.amounts["charged"], bought.amounts["refunded"]
    given = sum(amount for _, amount in status.refunds) if status else 0
    if charged is None or told != charged:
        return f"the shopper was told of {told or 0} of {charged or 0} rupiah"
    if given != charged:
        return f"the provider has given back {given} of {charged} rupiah"
    if placed.sale is None or placed.sale.refunded_idr != charged or placed.sale.booked_idr != 0:
        return "the owner's books do not say that all of it was given back"
    return None
