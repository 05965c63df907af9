"""A purchase tried in a test tenant, from the promotion's link to the refund, and judged by what all recorded of it.

Nothing that a shop, its records or the provider do wrong ends a trial: it becomes a check that failed, with a reason.
"""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median_low
from typing import Any, Protocol

from alih.contract.trying import KEY
from alih.errors import NeedsOperator, Retryable
from alih.evidence.canonical import Json
from alih.evidence.entry import Entry
from alih.gateway.wire import upstream_session
from alih.model.commerce import Trial
from alih.model.phase import IN_TRANSIT, Phase
from alih.model.side import Ownership, Side
from alih.proof.provenance import Provider
from alih.proof.purchase import Bought, Check, Found, experienced, judged, unknown
from alih.proof.sales import Placed
from alih.proof.shopper import Click, Limits, Shopper

BEFORE, DURING, AFTER = "before", "during", "after"


class Owners(Protocol):
    """Who owns a tenant, and where it stands: `alih.postgres.control.Control`."""

    async def owner(self, tenant: str) -> Ownership: ...
    async def phase(self, tenant: str) -> Phase: ...


class Ledgers(Protocol):
    """Both sides' records: `alih.proof.sales.Ledgers`."""

    async def placed(self, orders: Iterable[str]) -> Mapping[str, Placed]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """A purchase and what came of it. `side` and `epoch` owned the tenant when it was charged (or else at the end);
    `payee` is None if nothing was charged for one of the contract's accounts. Amounts are integer rupiah, None for one
    that nobody told. `hosts` are all that the shopper met: visited, led to, or named in an answer."""

    tenant: str
    cohort: str
    moment: str
    side: Side
    epoch: int
    clicks: tuple[Click, ...]
    checks: tuple[Check, ...]
    amounts: Mapping[str, int | None]
    payee: str | None
    hosts: tuple[str, ...]
    tab_ms: int | None
    order: str | None = field(repr=False)

    @property
    def passed(self) -> bool:
        return all(check.passed for check in self.checks)

    def facts(self) -> dict[str, Json]:
        """What may stand openly."""
        checks: list[Json] = [{"name": c.name, "passed": c.passed, "why": c.why} for c in self.checks]
        steps: list[Json] = [{"name": c.name, "ms": c.ms, "status": c.status} for c in self.clicks if c.made]
        return {
            "tenant": self.tenant, "cohort": self.cohort, "moment": self.moment, "passed": self.passed,
            "side": self.side.value, "epoch": self.epoch, "steps": steps, "checks": checks,
            "amounts": dict(self.amounts), "payee": self.payee, "hosts": list(self.hosts), "tab_ms": self.tab_ms,
        }  # fmt: skip

    def document(self) -> dict[str, Json]:
        """For `alih trial --json`: the order is named, so that it can be traced."""
        return {**self.facts(), "order": self.order}

    def entries(self) -> list[Entry]:
        """For the evidence: the trial, and a finding for each check that failed."""
        trial = Entry("trial", self.facts(), {} if self.order is None else {"sale": self.order})
        where: dict[str, Json] = {"tenant": self.tenant, "cohort": self.cohort, "moment": self.moment}
        failed = (f"{check.name}: {check.why}" for check in self.checks if not check.passed)
        return [trial, *(Entry("finding", {"source": "trial", "what": what, **where}) for what in failed)]


Tell = Callable[[Tried], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trials:
    """Tries purchases through `gateway` (its base URL without a slash at the end). `payees` name the account of each
    side's operator, as charges do."""

    trial: Trial
    gateway: str
    payees: Mapping[Side, str]
    owners: Owners
    ledgers: Ledgers
    provider: Provider
    limits: Limits = field(default_factory=Limits)

    async def rounds(self, every_s: float | None, tell: Tell) -> int:
        """Try a purchase in each cohort's test tenant, side by side, and `tell` of each when it is over; returns how
        many failed. With `every_s` each cohort begins again that long after its last beginning (at once, if the
        purchase took longer), and this ends only when it is cancelled. Raises Retryable while the control database
        is away."""
        async with asyncio.TaskGroup() as tasks:
            cohorts = [tasks.create_task(self._rounds(cohort, every_s, tell)) for cohort in self.trial.tenants]
        return sum(cohort.result() for cohort in cohorts)

    async def _rounds(self, cohort: str, every_s: float | None, tell: Tell) -> int:
        loop = asyncio.get_running_loop()
        while True:
            began = loop.time()
            tried = await self.try_purchase(cohort)
            await tell(tried)
            if every_s is None:
                return int(not tried.passed)
            await asyncio.sleep(max(0.0, began + every_s - loop.time()))

    async def try_purchase(self, cohort: str) -> Tried:
        """One purchase in that cohort's test tenant."""
        names = self.trial.tenants[cohort]
        tenant, key = names["tenant"], f"trial-{secrets.token_hex(8)}"
        began = await self._stand(tenant)
        async with upstream_session(self.limits.answer_s) as session:
            shopper = Shopper(session, self.gateway, {**names, KEY: key}, self.limits)
            clicks, paid = await self._bought(shopper, tenant)
        bought = Bought(shopper, tuple(clicks), frozenset(self.payees[stand.side] for stand in paid))
        found = await self._recorded(bought)
        ended = await self._stand(tenant)
        stand = paid[-1] if paid else ended
        return Tried(
            tenant=tenant,
            cohort=cohort,
            moment=_moment(began, ended),
            side=stand.side,
            epoch=stand.epoch,
            clicks=bought.clicks,
            checks=(*experienced(bought, found, self.trial.steps), *found.checks),
            amounts=bought.amounts | {"settled": found.settled_idr},
            payee=found.payee if found.payee in self.payees.values() else None,
            hosts=tuple(sorted(shopper.hosts)),
            tab_ms=next((c.ms for c in clicks if c.name == self.trial.tab and c.status is not None), None),
            order=bought.order,
        )

    async def _bought(self, shopper: Shopper, tenant: str) -> "tuple[list[Click], list[_Stand]]":
        """All clicks, and who owned the tenant just before and just after it was charged. A step that lacks what an
        earlier one should have taken is left out, and the others are made: what was paid shall be given back."""
        clicks: list[Click] = []
        paid: list[_Stand] = []
        for step in self.trial.steps:
            stand = await self._stand(tenant) if "charged" in step.takes else None
            clicks.append(await shopper.click(step))
            if stand is not None and clicks[-1].made:
                paid = [stand, await self._stand(tenant)]
        return clicks, paid

    async def _stand(self, tenant: str) -> "_Stand":
        owner = await self.owners.owner(tenant)
        return _Stand(owner.side, owner.epoch, isinstance(await self.owners.phase(tenant), IN_TRANSIT))

    async def _recorded(self, bought: Bought) -> Found:
        """What the records say; after a purchase that went well they have some time to say the right thing."""
        loop = asyncio.get_running_loop()
        until = loop.time() + (self.limits.records_s if bought.smooth else 0)
        found = await self._look(bought)
        while not all(check.passed for check in found.checks) and loop.time() < until:
            await asyncio.sleep(self.limits.pause_s)
            found = await self._look(bought)
        return found

    async def _look(self, bought: Bought) -> Found:
        if bought.order is None:
            return unknown("there is no order")
        try:
            placed = (await self.ledgers.placed([bought.order]))[bought.order]
            charge = placed.sale.charge if placed.sale else None
            if charge is None or charge.payee not in self.payees.values():
                return judged(bought, placed, None)
            return judged(bought, placed, await self.provider.status(charge.reference, charge.payee))
        except (Retryable, NeedsOperator) as failure:
            return unknown(failure.message)


@dataclass(frozen=True, slots=True)
class _Stand:
    """Who owns a tenant; whether it is on its way."""

    side: Side
    epoch: int
    moving: bool


def _moment(began: _Stand, ended: _Stand) -> str:
    """When a purchase was made, seen from its tenant's flip: one that straddles any change of owner is *during*."""
    if began.moving or ended.moving or began.epoch != ended.epoch:
        return DURING
    return BEFORE if began.side is Side.SOURCE else AFTER


def tab_pause(entries: Sequence[Mapping[str, Any]]) -> dict[str, int | None]:
    """How long the Shop tab took to open before, during and after the flips: the lower median of these `trial` leaves'
    `tab_ms`, None where it was not opened then."""
    times: dict[str, list[int]] = {BEFORE: [], DURING: [], AFTER: []}
    for leaf in entries:
        if leaf["kind"] == "trial" and leaf["tab_ms"] is not None:
            times[leaf["moment"]].append(leaf["tab_ms"])
    return {f"{moment}_ms": median_low(ms) if ms else None for moment, ms in times.items()}
