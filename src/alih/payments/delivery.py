"""Delivery of kept notices to whoever owns the shop by then, and the sweep for those that never came.

Each notice is posted to the gate, which chooses the owner at that moment, counts the request in flight, and holds it in
a hold. Notices of one charge are delivered one after another, in the order of their arrival; a failed one is offered
again until the window is over. A crash between the owner's answer and its record offers it once more: delivery is at
least once, and the owner has to know what it has done, as it had to when the provider itself repeated notices.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Protocol

import aiohttp

from alih.errors import AlihError, NeedsOperator, Retryable
from alih.gateway.routes import SIDE_HEADER, TENANT_HEADER
from alih.payments.custody import Unfit, arrived
from alih.payments.midtrans import Provider
from alih.postgres.custody import Custody, Kept

_AT_ONCE = 16
_LOOK_EVERY_S = 0.1
_STORE_PAUSE_S = 1.0
# Longer than the gate holds a request and then waits for its answer: who gives up earlier would offer a notice again
# while the owner is still at work on it.
_WITHIN = aiohttp.ClientTimeout(total=75)
SWEEP_EVERY_S = 5.0
OPEN_AFTER = timedelta(seconds=10)
_MOST_FAILURES = 5  # of one sweep: then the provider is away, and not only one charge odd
_log = logging.getLogger("alih.payments.delivery")


class OpenCharge(Protocol):
    """A charge that its owner has not seen settled: `alih.postgres.sales.Pending`."""

    @property
    def tenant(self) -> str: ...
    @property
    def payee(self) -> str: ...
    @property
    def reference(self) -> str: ...
    @property
    def begun_at(self) -> datetime: ...


@dataclass(frozen=True, slots=True)
class Delivery:
    """Posts kept notices to the gate at `gate` (`host:port`)."""

    custody: Custody
    gate: str
    session: aiohttp.ClientSession = field(repr=False)
    _under_way: set[int] = field(default_factory=set, init=False)
    _done: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    async def deliver_forever(self) -> None:
        """Until cancelled. While the control database is away nothing is delivered, and nothing is lost."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                self._done.clear()
                for notice in await self._due():
                    self._under_way.add(notice.id)
                    tasks.create_task(self._offer_once(notice))
                with suppress(TimeoutError):
                    async with asyncio.timeout(_LOOK_EVERY_S):
                        await self._done.wait()

    async def _due(self) -> list[Kept]:
        free = _AT_ONCE - len(self._under_way)
        try:
            return await self.custody.due(free, self._under_way) if free else []
        except AlihError as failure:
            _log.warning("delivery.store_away why=%s", type(failure).__name__)
            await asyncio.sleep(_STORE_PAUSE_S)
            return []

    async def _offer_once(self, notice: Kept) -> None:
        """What the owner has said and the store could not keep is offered again: at least once."""
        try:
            if await self._offer(notice):
                self._done.set()
        except AlihError as failure:
            _log.warning("delivery.not_recorded why=%s", type(failure).__name__)
            await asyncio.sleep(_STORE_PAUSE_S)
        finally:
            self._under_way.discard(notice.id)

    async def _offer(self, notice: Kept) -> bool:
        headers = {TENANT_HEADER: notice.tenant, "Content-Type": "application/json"}
        url = f"http://{self.gate}{notice.path}"
        try:
            async with self.session.post(
                url, data=notice.body, headers=headers, timeout=_WITHIN, allow_redirects=False
            ) as answer:
                taken, side = 200 <= answer.status <= 299, answer.headers.get(SIDE_HEADER)
        except (aiohttp.ClientError, TimeoutError):
            taken, side = False, None
        if taken:
            await self.custody.delivered(notice, side)
        else:
            await self.custody.put_off(notice)
        return taken


@dataclass(frozen=True, slots=True)
class Sweep:
    """Asks the provider about charges that are open for too long, and keeps what it says as a notice. It asks about
    each again after a quarter of the time that the charge has been open: some stay so for days.

    `path` makes the path on which a tenant's notices come in.
    """

    custody: Custody
    provider: Provider
    open_charges: Callable[[], Awaitable[Sequence[OpenCharge]]]
    path: Callable[[str], str]
    _again_at: dict[tuple[str, str], datetime] = field(default_factory=dict, init=False)

    async def sweep_forever(self) -> None:
        while True:
            try:
                await self.sweep()
            except AlihError as failure:
                _log.warning("sweep.put_off why=%s", type(failure).__name__)
            await asyncio.sleep(SWEEP_EVERY_S)

    async def sweep(self) -> int:
        """One look at everything that is open; gives how many notices were missing, and are kept now. Raises what the
        store raises, and Retryable when the provider answers about too few."""
        now = datetime.now(UTC)
        open_ = {(each.tenant, each.reference): each for each in await self.open_charges()}
        for gone in self._again_at.keys() - open_.keys():
            del self._again_at[gone]
        late = [c for key, c in open_.items() if self._again_at.get(key, c.begun_at + OPEN_AFTER) <= now]
        random.shuffle(late)  # so that odd ones do not always keep the same others from being asked about
        told = await self.custody.states([charge.reference for charge in late])
        kept = failed = 0
        for charge in late:
            key = charge.tenant, charge.reference
            try:
                kept += await self._ask(charge, told.get(key, set()))
            except (NeedsOperator, Retryable) as failure:
                failed += 1
                if failed == _MOST_FAILURES:
                    raise
                _log.warning("sweep.not_asked why=%s", type(failure).__name__)
            self._again_at[key] = now + (now - charge.begun_at) / 4
        return kept

    async def _ask(self, charge: OpenCharge, told: set[str]) -> bool:
        body = await self.provider.told(charge.reference, charge.payee)
        if body is None:
            return False
        try:
            notice = arrived(charge.tenant, self.path(charge.tenant), body, self.provider.payees, "sweep")
        except Unfit as unfit:
            _log.warning("sweep.unfit_answer why=%s", unfit.reason)
            return False
        if (notice.reference, notice.payee) != (charge.reference, charge.payee):
            _log.warning("sweep.another_charge")
            return False
        if notice.state in {*told, "pending"}:
            return False
        return await self.custody.keep(notice)
