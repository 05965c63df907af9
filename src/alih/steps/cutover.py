"""One tenant from one side to the other, while shoppers keep buying. Read `cut_over` from top to bottom.

Why at most one side accepts a write, and no accepted write is left behind:

- *drained* means the gate has seen the answer to every request it forwarded, so the fence that follows meets no
  request that it would have to refuse; writers that the gate cannot see (jobs, a worker whose client hung up) meet it.
- *fenced*: the owner row of the leaving side is turned under an exclusive lock that every writing transaction of
  the tenant holds shared until it ends. From then on neither side accepts a write.
- the *cut* is a message written into the leaving side's log under that lock; all accepted writes committed before
  it, the stream applies in commit order, so "position ≥ cut" means that all of them are on the entering side.
- only then the control row flips, and only after it the entering side's owner row.

Before the flip a failure aborts: nothing was accepted elsewhere, so turning the leaving side's row back is safe. The
journal decides which of the two it is: *aborting* and *flipped* exclude each other there, also when the answer to
the flip was lost or a second controller is at work. After the flip the entering side owns, and a rerun completes
what was not done yet. Whatever ends an attempt, an error or Ctrl-C, it is put right before anybody hears of it.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from alih.errors import AlihError, NeedsOperator, Retryable
from alih.model.phase import (
    Aborting,
    CaughtUp,
    Drained,
    Fenced,
    Flipped,
    Holding,
    Phase,
    Soaking,
    Verified,
    must_abort,
)
from alih.model.side import Side
from alih.ports import Fences, Gate, Journal, Probe, Ranges, Stream, Verification

HOLD_BUDGET_S = 2.0  # an abort is due when the hold has lasted this long
MOST_IN_HOLD = 50_000  # keys compared in a hold: as many as its budget lets pass
_PUT_RIGHT_ATTEMPTS, _PUT_RIGHT_PAUSE_S = 5, 0.2


@dataclass(frozen=True, slots=True)
class Moved:
    """The tenant belongs to the entering side."""

    tenant: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Aborted:
    """The tenant stayed where it was, with everything it had; `reason` says why."""

    tenant: str
    reason: str


Outcome = Moved | Aborted


@dataclass(frozen=True, slots=True, kw_only=True)
class Road:
    """What a cutover away from `leaving` works with: `stream` and `verifier` lead from there to the other side."""

    leaving: Side
    fences: Fences
    stream: Stream
    verifier: Verification
    ranges: Ranges
    gate: Gate
    journal: Journal
    probe: Probe
    budget_s: float = HOLD_BUDGET_S
    pause_s: float = _PUT_RIGHT_PAUSE_S

    @property
    def entering(self) -> Side:
        return self.leaving.other

    def resting(self, position: str, epoch: int) -> Phase:
        """The phase of a tenant that stays on the leaving side."""
        return Verified(position) if self.leaving is Side.SOURCE else Soaking(self.leaving, epoch)

    async def enter(self, tenant: str, phase: Phase) -> None:
        await self.journal.enter(tenant, phase)
        await self.probe.reached(f"cutover.{type(phase).__name__.lower()}")


async def cut_over(tenant: str, road: Road) -> Outcome:
    """Hold, drain, fence, catch up, verify, flip, open, release. The tenant is tracked already.

    Raises Corrupt if another controller is at work, and Retryable if a failed attempt could not be put right either:
    then the tenant stays held, for nobody can serve it, and `recover` has to be called again.
    """
    epoch = (await road.journal.owner(tenant)).epoch + 1
    reason = ""
    try:
        await _check_pending(tenant, road)
        async with asyncio.timeout(road.budget_s):
            await _until_caught_up(tenant, epoch, road)
        await road.journal.settle(tenant, road.entering, epoch, Flipped(road.entering, epoch))
        await road.probe.reached("cutover.flipped")
    except (Retryable, NeedsOperator, TimeoutError, _Differs) as failure:
        reason = _reason(failure)
    finally:
        await _put_right(tenant, road)
    owner = await road.journal.owner(tenant)
    return Moved(tenant, owner.epoch) if owner.side is road.entering else Aborted(tenant, reason)


async def _check_pending(tenant: str, road: Road) -> None:
    """Nobody is held for a comparison that would outlast the hold."""
    if (pending := await road.verifier.pending(tenant)) > MOST_IN_HOLD:
        raise Retryable(
            f"{pending} keys changed since they were last found equal, and a hold has time for {MOST_IN_HOLD}",
            remedy="run alih verify, then the cutover again",
        )


async def _until_caught_up(tenant: str, epoch: int, road: Road) -> None:
    await road.enter(tenant, Holding(epoch))
    road.gate.hold(tenant)
    await _drain(tenant, epoch, road)
    cut = await _fence(tenant, epoch, road)
    await _catch_up(tenant, epoch, cut, road)


async def _drain(tenant: str, epoch: int, road: Road) -> None:
    if not await road.gate.drained(tenant, road.budget_s):
        raise Retryable("requests in flight did not end", remedy="run the cutover again")
    await road.enter(tenant, Drained(epoch))


async def _fence(tenant: str, epoch: int, road: Road) -> str:
    cut = await road.fences[road.leaving].close(tenant, epoch)
    await road.enter(tenant, Fenced(epoch, str(cut)))
    await road.stream.reached(cut, road.budget_s)
    return str(cut)


async def _catch_up(tenant: str, epoch: int, cut: str, road: Road) -> None:
    verdict = await road.verifier.changed_keys(tenant)
    if not verdict.clean:
        raise _Differs(f"{len(verdict.findings)} of {verdict.rows} changed rows differ")
    await road.ranges.apart()
    await road.enter(tenant, CaughtUp(epoch, cut))


async def _put_right(tenant: str, road: Road) -> None:
    """`recover`, and again after a lost connection."""
    for _ in range(_PUT_RIGHT_ATTEMPTS - 1):
        try:
            return await recover(tenant, {road.leaving: road})
        except Retryable:
            await asyncio.sleep(road.pause_s)
    return await recover(tenant, {road.leaving: road})


async def recover(tenant: str, roads: Mapping[Side, Road]) -> None:
    """Put right what was left half done: abort before the flip, complete after it. Does nothing for a tenant that is
    not in transit but release it. Safe to repeat. `roads` by the side that they leave."""
    journal = next(iter(roads.values())).journal
    phase = await journal.phase(tenant)
    owner = await journal.owner(tenant)
    if must_abort(phase):
        await abort(tenant, owner.epoch, roads[owner.side])
    elif isinstance(phase, Flipped):
        await complete(tenant, phase.epoch, roads[phase.owner.other])
    next(iter(roads.values())).gate.release(tenant)


async def complete(tenant: str, epoch: int, road: Road) -> None:
    """What follows the flip, but for the release."""
    await road.fences[road.entering].open(tenant, epoch)
    await road.probe.reached("cutover.opened")
    await road.journal.enter(tenant, Soaking(road.entering, epoch))


async def abort(tenant: str, epoch: int, road: Road) -> None:
    """Everything back to where it was under `epoch`, but for the release. The attempt's epoch is used up, and so is
    the next, for the leaving side's row must be newer than what the attempt may have left in it."""
    await road.enter(tenant, Aborting(epoch + 2))
    await road.fences[road.leaving].open(tenant, epoch + 2)
    await road.probe.reached("cutover.reopened")
    await road.journal.settle(tenant, road.leaving, epoch + 2, road.resting("aborted", epoch + 2))


class _Differs(Exception):
    """The changed rows are not equal on both sides."""


def _reason(failure: Exception) -> str:
    match failure:
        case AlihError():
            return failure.message
        case TimeoutError():
            return "the hold lasted too long"
        case _:
            return str(failure)
