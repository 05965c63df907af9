"""A cohort in waves: each wave is tracked together, then its tenants are cut over one by one, some side by side.

Just before the holds, while nobody waits yet, what has changed in the wave's tenants since they were last verified is
compared, so that the verification inside each hold has only the keys of the last moments to compare.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from alih.errors import AlihError, Corrupt
from alih.model.phase import IN_TRANSIT, Tracked
from alih.ports import Routes
from alih.steps.cutover import Aborted, Outcome, Road, cut_over, recover

ATTEMPTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Convoy:
    """What a cohort is moved with. Each of `roads` carries one tenant at a time.

    `tracked_s` is how long a request can live: requests that went past the gate have ended by then.
    """

    roads: Sequence[Road]
    routes: Routes
    wave: int
    tracked_s: float

    @property
    def lead(self) -> Road:
        return self.roads[0]


async def cut_over_cohort(tenants: Sequence[str], convoy: Convoy) -> list[Outcome]:
    """Cut over every tenant that is not on the entering side yet; gives the last outcome of each, aborted ones
    after some attempts. Safe to repeat."""
    await _mend(tenants, convoy)
    outcomes: dict[str, Outcome] = {}
    async for wave in _waves(tenants, convoy):
        waiting = wave
        for _ in range(ATTEMPTS):
            outcomes |= {outcome.tenant: outcome for outcome in await _cut_over_wave(waiting, convoy)}
            waiting = [tenant for tenant in waiting if isinstance(outcomes[tenant], Aborted)]
            if not waiting:
                break
    return list(outcomes.values())


async def _waves(tenants: Sequence[str], convoy: Convoy) -> AsyncIterator[list[str]]:
    for start in range(0, len(tenants), convoy.wave):
        part = tenants[start : start + convoy.wave]
        waiting = [t for t in part if (await convoy.lead.journal.owner(t)).side is convoy.lead.leaving]
        if waiting:
            yield waiting


async def _mend(tenants: Sequence[str], convoy: Convoy) -> None:
    """Put right what an earlier attempt could not put right itself, and show the table that it may have failed to."""
    lead = convoy.lead
    stuck = [tenant for tenant in tenants if isinstance(await lead.journal.phase(tenant), IN_TRANSIT)]
    for tenant in stuck:
        lead.gate.track(tenant)
        await recover(tenant, {lead.leaving: lead})
    await convoy.routes.show(tracked=())
    _forget(stuck, lead)


async def _cut_over_wave(wave: list[str], convoy: Convoy) -> list[Outcome]:
    lead = convoy.lead
    async with _tracked(wave, convoy):
        await asyncio.sleep(convoy.tracked_s)
        verdict = await lead.verifier.recent_changes(wave)
        if not verdict.clean:
            reason = f"{len(verdict.findings)} of {verdict.rows} rows differ, {verdict.undecided} undecided"
            return [Aborted(tenant, reason) for tenant in wave]
        return await _side_by_side(wave, convoy)


@asynccontextmanager
async def _tracked(wave: list[str], convoy: Convoy) -> AsyncIterator[None]:
    """All the wave's requests go through the gate. Afterwards each tenant goes straight to its owner again; one that
    is still in transit, because it could not be put right, stays held at the gate: nobody can serve it."""
    lead = convoy.lead
    try:
        for tenant in wave:
            lead.gate.track(tenant)
            await lead.journal.enter(tenant, Tracked())
        await convoy.routes.show(tracked=wave)
        yield
    finally:
        stuck = [tenant for tenant in wave if not await _at_rest(tenant, lead)]
        try:
            await convoy.routes.show(tracked=stuck)
        finally:  # requests that still come are forwarded
            _forget([tenant for tenant in wave if tenant not in stuck], lead)


def _forget(tenants: Sequence[str], lead: Road) -> None:
    for tenant in tenants:
        lead.gate.forget(tenant)


async def _at_rest(tenant: str, lead: Road) -> bool:
    phase = await lead.journal.phase(tenant)
    if isinstance(phase, Tracked):  # nothing was done yet, and nothing has to be undone
        await lead.journal.enter(tenant, lead.resting("not cut over", (await lead.journal.owner(tenant)).epoch))
        return True
    return not isinstance(phase, IN_TRANSIT)


async def _side_by_side(wave: list[str], convoy: Convoy) -> list[Outcome]:
    waiting = list(reversed(wave))
    outcomes: list[Outcome] = []

    async def carry(road: Road) -> None:
        while waiting:
            outcomes.append(await cut_over(waiting.pop(), road))

    try:
        async with asyncio.TaskGroup() as lanes:
            for road in convoy.roads:
                lanes.create_task(carry(road))
    except ExceptionGroup as failures:
        raise _first(failures) from failures
    return outcomes


def _first(failures: ExceptionGroup[Exception]) -> Exception:
    """What one lane stopped for; when several did, what is worst: a broken invariant, or what nobody expected."""
    return min(failures.exceptions, key=lambda failure: isinstance(failure, AlihError) - isinstance(failure, Corrupt))
