"""A sale from end to end: the gateway, the owner's records, its ledger, the provider's record, the invoice.

`Tracer.trace` follows one sale, `Tracer.audit` a sample of them, and with it every sale that stands in the wrong
ledger, sampled or not.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from alih.evidence.canonical import Json
from alih.evidence.entry import Entry, stamp
from alih.model.side import Ownership, Side
from alih.postgres.seen import Call, SeenStore
from alih.proof.sales import Ledgers, Misplaced, Placed, Sale

LINKS = ("gateway", "owner", "ledger", "provider", "invoice")
_AT_ONCE = 8
_LOOKS, _LOOK_PAUSE_S = 3, 0.5


class Status(Protocol):
    """The provider's word about a charge: `alih.payments.midtrans.Status`."""

    @property
    def gross_idr(self) -> int: ...
    @property
    def settled(self) -> bool: ...
    @property
    def refunds(self) -> Sequence[tuple[str, int]]: ...


class Provider(Protocol):
    """Who collects: `alih.payments.midtrans.Provider`. None: that account has no such charge."""

    async def status(self, reference: str, payee: str) -> Status | None: ...


class Documents(Protocol):
    """Where invoices are shown: `alih.proof.invoice.Invoices`."""

    async def fault(self, tenant: str, order: str) -> str | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One link of the chain: what was found, and if it does not hold, why."""

    name: str
    why: str | None = None
    found: Mapping[str, Json] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        return self.why is None


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """A sale from end to end. `owner` is None if neither side has anything of it."""

    order: str
    owner: Ownership | None
    links: tuple[Link, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(link.name for link in self.links if not link.holds)

    @property
    def proven(self) -> bool:
        return not self.missing

    def document(self) -> dict[str, Json]:
        """For `alih trace --json`."""
        return {
            "order": self.order,
            **_owned(self.owner),
            "proven": self.proven,
            "missing": list(self.missing),
            "links": [{"name": e.name, "holds": e.holds, "why": e.why, "found": dict(e.found)} for e in self.links],
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What an audit found. `misplaced` is every sale in the wrong ledger, whether it was drawn or not."""

    seed: int
    population: int
    traces: tuple[Trace, ...]
    misplaced: tuple[Misplaced, ...]

    @property
    def proven(self) -> int:
        return sum(trace.proven for trace in self.traces)

    @property
    def clean(self) -> bool:
        return self.proven == len(self.traces) and not self.misplaced

    def document(self) -> dict[str, Json]:
        """For `alih audit --json`: names the sales that lack a link, and the links with their reasons."""
        unproven = [trace for trace in self.traces if not trace.proven]
        drawn = {trace.order for trace in unproven}
        lacking: list[Json] = [
            {"sale": t.order, "missing": list(t.missing), "why": {e.name: e.why for e in t.links if not e.holds}}
            for t in unproven
        ]
        lacking += [
            {"sale": m.order, "missing": ["ledger"], "why": {"ledger": _in_wrong_ledger(m.side)}}
            for m in self.misplaced
            if m.order not in drawn
        ]
        return {
            "sampled": len(self.traces),
            "proven": self.proven,
            "seed": self.seed,
            "population": self.population,
            "misplaced": [m.order for m in self.misplaced],
            "missing": lacking,
        }

    def entries(self) -> list[Entry]:
        """For the evidence: the audit, and a finding for each sale in the wrong ledger."""
        names = {trace.order: f"s{number}" for number, trace in enumerate(self.traces, 1)}
        sales: list[Json] = [
            {"sale": f"@{names[t.order]}", **_owned(t.owner), "proven": t.proven, "missing": list(t.missing)}
            for t in self.traces
        ]
        facts: dict[str, Json] = {
            "sampled": len(self.traces), "proven": self.proven, "seed": self.seed, "population": self.population,
            "sales": sales,
        }  # fmt: skip
        audit = Entry("audit", facts, {name: order for order, name in names.items()})
        return [audit, *(_finding(m) for m in self.misplaced)]


def _finding(misplaced: Misplaced) -> Entry:
    facts: dict[str, Json] = {
        "source": "audit", "what": _in_wrong_ledger(misplaced.side), "tenant": misplaced.tenant, "sale": "@sale",
        "amount_idr": misplaced.received_idr,
    }  # fmt: skip
    return Entry("finding", facts, {"sale": misplaced.order})


def _in_wrong_ledger(side: Side) -> str:
    return f"stands in the ledger of the {side}, which does not own the shop"


def _owned(owner: Ownership | None) -> dict[str, Json]:
    if owner is None:
        return {"tenant": None, "side": None, "epoch": None}
    return {"tenant": owner.tenant, "side": owner.side.value, "epoch": owner.epoch}


class Tracer:
    """Follows sales. `payees` name the account of each side's operator, as charges do."""

    def __init__(
        self,
        ledgers: Ledgers,
        seen: SeenStore,
        provider: Provider,
        invoices: Documents,
        payees: Mapping[Side, str],
        *,
        look_pause_s: float = _LOOK_PAUSE_S,
    ) -> None:
        self._ledgers = ledgers
        self._seen = seen
        self._provider = provider
        self._invoices = invoices
        self._payees = payees
        self._pause_s = look_pause_s

    async def trace(self, order: str) -> Trace:
        """Follow one sale. A link counts as missing when it still is after some looks: sales go on meanwhile.
        Raises Retryable while the provider or a database cannot be asked."""
        return await self._persisting(order, (await self._ledgers.placed([order]))[order])

    async def _persisting(self, order: str, placed: Placed) -> Trace:
        trace = await self._look(placed)
        for _ in range(_LOOKS - 1):
            if not trace.missing:
                break
            await asyncio.sleep(self._pause_s)
            trace = await self._look((await self._ledgers.placed([order]))[order])
        return trace

    async def audit(self, sample: int, seed: int) -> Audit:
        """Trace `sample` sales of the population (all, if there are fewer); the same seed draws the same ones."""
        orders, population = await self._ledgers.sampled(sample, seed)
        placed = await self._ledgers.placed(orders)
        turn = asyncio.Semaphore(_AT_ONCE)
        async with asyncio.TaskGroup() as tasks:
            traces = [tasks.create_task(self._in_turn(order, placed[order], turn)) for order in orders]
        return Audit(
            seed=seed,
            population=population,
            traces=tuple(trace.result() for trace in traces),
            misplaced=tuple(await self._ledgers.misplaced()),
        )

    async def _in_turn(self, order: str, placed: Placed, turn: asyncio.Semaphore) -> Trace:
        async with turn:
            return await self._persisting(order, placed)

    async def _look(self, placed: Placed) -> Trace:
        calls = await self._seen.calls(placed.order)
        links = (
            seen_link(calls, placed.owner),
            self._recorded(placed, calls),
            ledger_link(placed),
            await self._collected(placed.sale),
            await self._shown(placed, calls),
        )
        return Trace(order=placed.order, owner=placed.owner, links=links)

    def _recorded(self, placed: Placed, calls: Sequence[Call]) -> Link:
        began = {self._payees[call.side] for call in calls if call.side is not None}
        return owner_link(placed, began or set(self._payees.values()))

    async def _collected(self, sale: Sale | None) -> Link:
        charge = sale.charge if sale else None
        if sale is None or charge is None:
            return Link(name="provider", why="there is no charge to ask about")
        if charge.payee not in self._payees.values():
            return Link(name="provider", why="the payee is not one of the contract's")
        return provider_link(sale, await self._provider.status(charge.reference, charge.payee))

    async def _shown(self, placed: Placed, calls: Sequence[Call]) -> Link:
        tenant = placed.owner.tenant if placed.owner else next((call.tenant for call in calls), None)
        if tenant is None:
            return Link(name="invoice", why="nobody knows of this sale")
        return Link(name="invoice", why=await self._invoices.fault(tenant, placed.order))


def seen_link(calls: Sequence[Call], owner: Ownership | None) -> Link:
    """Whether a side that owned the shop has answered the sale at the gateway."""
    answered = [c for c in calls if c.side is not None and (owner is None or c.tenant == owner.tenant)]
    call = next((c for c in answered if 200 <= c.status <= 299), answered[-1] if answered else None)
    if call is None or call.side is None:
        return Link(name="gateway", why="was never seen to be answered at the gateway")
    found: dict[str, Json] = {
        "side": call.side.value, "epoch": call.epoch, "at": stamp(call.at), "status": call.status, "calls": len(calls),
    }  # fmt: skip
    why = None if call.epoch is not None else "was answered by a side that did not own the shop"
    return Link(name="gateway", why=why, found=found)


def owner_link(placed: Placed, began: set[str]) -> Link:
    """Whether the owner has the order and its charge, of one amount, for the account of a side that was asked."""
    sale = placed.sale
    if placed.owner is None or sale is None:
        return Link(name="owner", why="the owner has no such order", found=_owned(placed.owner))
    found: dict[str, Json] = {
        **_owned(placed.owner), "at": stamp(sale.at), "amount_idr": sale.amount_idr, "charge_idr": sale.charge_idr,
        "payee": sale.payee, "settled": sale.settled,
    }  # fmt: skip
    return Link(name="owner", why=_recorded_wrong(sale, began), found=found)


def _recorded_wrong(sale: Sale, began: set[str]) -> str | None:
    if sale.charge is None:
        return "the order has no charge"
    if len([charge for charge in sale.charges if charge.settled]) > 1:
        return "the order was charged more than once"
    if sale.charge.amount_idr != sale.amount_idr:
        return f"the charge is {sale.charge.amount_idr - sale.amount_idr:+} rupiah off the order's amount"
    if sale.charge.payee not in began:
        return "the charge is for another account than that of the side that began it"
    return None


def ledger_link(placed: Placed) -> Link:
    """Whether the owner's ledger says what was charged and given back, and the other side's nothing else."""
    if placed.foreign and placed.owner is not None:
        return Link(name="ledger", why=_in_wrong_ledger(placed.owner.side.other))
    sale = placed.sale
    if sale is None:
        return Link(name="ledger", why="the owner has no such order")
    found: dict[str, Json] = {"received_idr": sale.booked_idr, "entries": len(sale.entries)}
    expected = sale.charged_idr - sale.refunded_idr
    if not sale.entries and sale.settled:
        return Link(name="ledger", why="the owner's ledger has no entry", found=found)
    if sale.booked_idr != expected:
        why = f"the ledger is {sale.booked_idr - expected:+} rupiah off what was charged and given back"
        return Link(name="ledger", why=why, found=found)
    return Link(name="ledger", found=found)


def provider_link(sale: Sale, status: Status | None) -> Link:
    """Whether the provider says of the charge and its refunds what the owner says."""
    if status is None:
        return Link(name="provider", why="the payee's account has no such charge at the provider")
    refunded = sorted(((key, amount) for key, amount in status.refunds), key=str)
    found: dict[str, Json] = {
        "gross_idr": status.gross_idr, "payee": sale.payee, "settled": status.settled,
        "refunded_idr": sum(amount for _, amount in refunded),
    }  # fmt: skip
    why = None
    if status.gross_idr != sale.charge_idr:
        why = f"the provider's amount is {status.gross_idr - (sale.charge_idr or 0):+} rupiah off the charge's"
    elif status.settled != sale.settled:
        why = f"the provider says {'' if status.settled else 'not '}settled, and the owner the opposite"
    elif refunded != sorted(((r.key, r.amount_idr) for r in sale.refunds if r.settled), key=str):
        why = "the refunds at the provider are others than the owner's"
    return Link(name="provider", why=why, found=found)
