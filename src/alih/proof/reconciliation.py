"""Money matched to the rupiah: orders = charges = what the provider settled; the ledger = charges − refunds.

Each sale is compared on its own and then counted into a line: payee account, tenant, day. The day is that on which
the charge settled, in the contract's time zone; refunds and ledger entries stand on the day of their sale. What is too
young to be complete is open, and counted into no line.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo

from alih.evidence.canonical import Json
from alih.evidence.entry import Entry
from alih.model.side import Side
from alih.postgres.sales import Charge, Sale
from alih.proof.history import History

YOUNG = timedelta(seconds=10)
"""For so long after the last thing that happened to a sale its records may be incomplete."""

NOBODY, NO_DAY = "-", "-"
"""Of a difference whose account or day nobody knows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """The provider's last word about a reference: how much it has collected, and given back under which keys.
    `delivered` says whether the owner has taken the notice; `received_at` when alih has learned it."""

    tenant: str
    reference: str
    payee: str
    gross_idr: int
    settled_at: datetime
    refunds: tuple[tuple[str, int], ...]
    delivered: bool
    received_at: datetime


class Difference(NamedTuple):
    """Something that does not match, and by how much."""

    what: str
    amount_idr: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unexplained:
    """A difference, and the sale that it is in: the order's id, or the provider's reference where no order is known."""

    payee: str
    tenant: str
    day: str
    what: str
    amount_idr: int
    sale: str


@dataclass(slots=True)
class Sums:
    """Rupiah and sales of a line, or of several."""

    orders_idr: int = 0
    charges_idr: int = 0
    provider_idr: int = 0
    refunds_idr: int = 0
    books_idr: int = 0
    sales: int = 0

    def add(self, sale: Sale, provider_idr: int) -> None:
        self.orders_idr += sale.amount_idr
        self.charges_idr += sale.charged_idr
        self.provider_idr += provider_idr
        self.refunds_idr += sale.refunded_idr
        self.books_idr += sale.booked_idr
        self.sales += 1

    def plus(self, other: "Sums") -> "Sums":
        return Sums(**{name: mine + other.facts()[name] for name, mine in self.facts().items()})

    def facts(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in self.__slots__}


class _Line(NamedTuple):
    payee: str
    tenant: str
    day: str


class _Claim(NamedTuple):
    tenant: str
    day: str
    from_payee: str
    to_payee: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """Every line, and what is not explained. `earlier` are the sales that settled before alih began to keep the
    provider's notices: they are not compared with the provider, and stand in no line. Claims are what the operator
    whose account collected for a shop that it did not own owes the other, less what was given back."""

    zone: str
    test_tenants: frozenset[str]
    lines: Mapping[_Line, Sums]
    claims: Mapping[_Claim, tuple[int, int]]
    unexplained: tuple[Unexplained, ...]
    open_sales: int
    open_idr: int
    earlier: Sums

    @property
    def unexplained_tenants(self) -> frozenset[str]:
        return frozenset(each.tenant for each in self.unexplained)

    @property
    def totals(self) -> Sums:
        """Of the lines that are not of test tenants."""
        sums = Sums()
        for line, each in self.lines.items():
            if line.tenant not in self.test_tenants:
                sums = sums.plus(each)
        return sums

    def document(self) -> dict[str, Json]:
        """For `alih reconcile --json`."""
        return self._facts([each.sale for each in self.unexplained])

    def entry(self) -> Entry:
        """For the evidence: sales by commitments only."""
        names = [f"u{number}" for number in range(1, len(self.unexplained) + 1)]
        secrets = {name: each.sale for name, each in zip(names, self.unexplained, strict=True)}
        return Entry("reconciliation", self._facts([f"@{name}" for name in names]), secrets)

    def _facts(self, sales: Sequence[str]) -> dict[str, Json]:
        lines: list[Json] = [
            {**line._asdict(), **sums.facts(), "test": line.tenant in self.test_tenants}
            for line, sums in sorted(self.lines.items())
        ]
        claims: list[Json] = [
            {**claim._asdict(), "amount_idr": amount, "sales": count}
            for claim, (amount, count) in sorted(self.claims.items())
        ]
        unexplained: list[Json] = [
            {
                "payee": e.payee,
                "tenant": e.tenant,
                "day": e.day,
                "what": e.what,
                "amount_idr": e.amount_idr,
                "sale": sale,
            }
            for e, sale in zip(self.unexplained, sales, strict=True)
        ]
        return {
            "zone": self.zone,
            "lines": lines,
            "claims": claims,
            "open": {"sales": self.open_sales, "amount_idr": self.open_idr},
            "unexplained": unexplained,
            "totals": dict(self.totals.facts()),
            "earlier": dict(self.earlier.facts()),
        }


def differences(sale: Sale, words: Mapping[str, Word], compared_since: datetime) -> list[Difference]:
    """What does not match in a sale. `words` are by reference; a charge that settled before `compared_since` is not
    compared with the provider."""
    settled = [charge for charge in sale.charges if charge.settled]
    found = list(_own_differences(sale, settled))
    for charge in sale.charges:
        if not charge.settled or _settled_at(charge) >= compared_since:
            found.extend(_charge_differences(charge, words.get(charge.reference)))
    if all(_settled_at(charge) >= compared_since for charge in settled):
        found.extend(_refund_differences(sale, [w for c in sale.charges if (w := words.get(c.reference))]))
    return found


def _own_differences(sale: Sale, settled: Sequence[Charge]) -> Iterable[Difference]:
    if len(settled) > 1:
        yield Difference("the order was charged more than once", sale.charged_idr - sale.amount_idr)
    elif settled and sale.charged_idr != sale.amount_idr:
        yield Difference("order and charge differ", abs(sale.charged_idr - sale.amount_idr))
    if sale.booked_idr != (expected := sale.charged_idr - sale.refunded_idr):
        yield Difference("ledger and charge differ", abs(sale.booked_idr - expected))


def _charge_differences(charge: Charge, word: Word | None) -> Iterable[Difference]:
    if word is None and charge.settled:
        yield Difference("the provider has not settled the charge", charge.amount_idr)
    if word is not None and not charge.settled:
        yield Difference("the owner has not recorded what the provider settled", word.gross_idr)
    if word is not None and word.gross_idr != charge.amount_idr:
        yield Difference("charge and provider differ", abs(word.gross_idr - charge.amount_idr))
    if word is not None and word.payee != charge.payee:
        yield Difference("the provider collected for another account", word.gross_idr)


def _refund_differences(sale: Sale, words: Sequence[Word]) -> Iterable[Difference]:
    """By key and amount, never by amount alone: two equal partial refunds are two."""
    here = Counter((refund.key, refund.amount_idr) for refund in sale.refunds if refund.settled)
    there = Counter(refund for word in words for refund in word.refunds)
    if missing := there - here:
        yield Difference("a refund of the provider is missing at the owner", _sum(missing))
    if surplus := here - there:
        yield Difference("a refund of the owner is missing at the provider", _sum(surplus))


def _sum(refunds: Counter[tuple[str, int]]) -> int:
    return sum(amount for _, amount in refunds.elements())


def _settled_at(charge: Charge) -> datetime:
    return charge.settled_at or charge.at


def young(sale: Sale | None, words: Iterable[Word], now: datetime) -> bool:
    """Whether a difference may only be a matter of time: something has just happened, or a notice is on its way."""
    moments = [word.received_at for word in words]
    if sale is not None:
        moments += [_settled_at(charge) for charge in sale.charges]
        moments += [sale.refunded_at] if sale.refunded_at else []
    return any(not word.delivered for word in words) or now - max(moments, default=now) < YOUNG


@dataclass(slots=True, kw_only=True)
class Tally:
    """Counts sales into lines, claims and the rest. `payees` name the account of each side's operator."""

    zone: str
    payees: Mapping[Side, str]
    history: History
    test_tenants: frozenset[str]
    compared_since: datetime
    lines: dict[_Line, Sums] = field(default_factory=dict)
    claims: dict[_Claim, tuple[int, int]] = field(default_factory=dict)
    unexplained: list[Unexplained] = field(default_factory=list)
    earlier: Sums = field(default_factory=Sums)
    open_sales: int = 0
    open_idr: int = 0

    def count(self, sale: Sale, words: Mapping[str, Word]) -> None:
        """Into its line, or among the earlier ones."""
        charge = sale.charge
        if charge is None or not charge.settled:
            return
        if _settled_at(charge) < self.compared_since:
            self.earlier.add(sale, 0)
            return
        provider_idr = sum(word.gross_idr for c in sale.charges if (word := words.get(c.reference)))
        line = _Line(charge.payee, sale.tenant, self.day(_settled_at(charge)))
        self.lines.setdefault(line, Sums()).add(sale, provider_idr)
        self._claim(sale, charge)

    def _claim(self, sale: Sale, charge: Charge) -> None:
        owner = self.history.at(sale.tenant, _settled_at(charge)).side
        if charge.payee == self.payees[owner] or sale.tenant in self.test_tenants:
            return
        claim = _Claim(sale.tenant, self.day(_settled_at(charge)), charge.payee, self.payees[owner])
        amount, count = self.claims.get(claim, (0, 0))
        self.claims[claim] = amount + sale.charged_idr - sale.refunded_idr, count + 1

    def leave_open(self, amount_idr: int) -> None:
        self.open_sales += 1
        self.open_idr += amount_idr

    def miss(self, tenant: str, order: str, sale: Sale | None, found: Iterable[Difference]) -> None:
        """Note what is not explained in a sale, of which the owner has `sale`."""
        charge = sale.charge if sale else None
        payee = charge.payee if charge else NOBODY
        day = self.day(_settled_at(charge) if charge else sale.at) if sale else NO_DAY
        self.unexplained += [
            Unexplained(payee=payee, tenant=tenant, day=day, what=what, amount_idr=amount_idr, sale=order)
            for what, amount_idr in found
        ]

    def miss_order(self, word: Word) -> None:
        """Note what the provider has settled and nobody has recorded."""
        self.unexplained.append(
            Unexplained(
                payee=word.payee,
                tenant=word.tenant,
                day=self.day(word.settled_at),
                what="the provider settled what no order knows",
                amount_idr=word.gross_idr,
                sale=word.reference,
            )
        )

    def day(self, at: datetime) -> str:
        return at.astimezone(ZoneInfo(self.zone)).date().isoformat()

    def result(self) -> Reconciliation:
        return Reconciliation(
            zone=self.zone,
            test_tenants=self.test_tenants,
            lines=self.lines,
            claims=self.claims,
            unexplained=tuple(sorted(self.unexplained, key=lambda e: (e.tenant, e.day, e.sale, e.what))),
            open_sales=self.open_sales,
            open_idr=self.open_idr,
            earlier=self.earlier,
        )
