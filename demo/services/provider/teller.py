"""Settles charges and tells the shops, until they listen; also after a restart."""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

import aiohttp
import anyio
import msgspec
from anyio.abc import TaskGroup

from demo.services.provider import records
from demo.services.provider.faults import Chance, Faults
from demo.services.web import Database, Row, Work

RETRIES_S = (0.2, 0.5, 1, 2, 3, 5, 5, 10, 10, 20, 30)
HELD_BACK_S = 3.0
"""How long a notice waits to be overtaken by the next one of its charge, which may never come."""
_WITHIN = aiohttp.ClientTimeout(total=15)


@dataclass(slots=True)
class Teller:
    """`keys` are the server keys by account; a buyer pays after `paid_after_s` seconds."""

    db: Database
    session: aiohttp.ClientSession
    tasks: TaskGroup
    keys: Mapping[str, str] = field(repr=False)
    paid_after_s: float
    chance: Chance = field(default_factory=lambda: Chance(Faults()))
    overtaken: defaultdict[str, anyio.Event] = field(default_factory=lambda: defaultdict(anyio.Event))

    async def resume(self) -> None:
        """Go on with what was not done when the provider last stopped."""
        for charge in await self.db.rows("unpaid"):
            self.settle_later(charge["order_id"], charge["paid_after_s"])
        for notice in await self.db.rows("untaken"):
            self.tell(notice)

    def patience_s(self) -> float:
        """After how many seconds the next buyer pays."""
        return self.chance.faults.slow_s if self.chance.strikes("slow") else self.paid_after_s

    def settle_later(self, order: str, after_s: float) -> None:
        self.tasks.start_soon(self._settle, order, after_s)

    async def note(self, work: Work, order: str) -> Row:
        """Write down the notice of what the transaction did to the charge; to be told when it has committed."""
        charge = await work.row("charge", account=None, order=order)
        body = msgspec.json.encode(records.told(charge, self.keys[charge["account"]])).decode()
        return await work.row("note", order=order, body=body, lost=self.chance.strikes("lost"))

    def tell(self, notice: Row) -> None:
        """Send the notice to whoever asked for it when the charge was made, unless it is one that gets lost."""
        if notice["url"] and not notice["lost"]:
            self.tasks.start_soon(self._tell, notice)

    async def _settle(self, order: str, after_s: float) -> None:
        await anyio.sleep(after_s)
        async with self.db.transaction() as work:
            settled = await work.rows("settle", order=order)
            notices = [await self.note(work, charge["order_id"]) for charge in settled]
        for notice in notices:
            self.tell(notice)

    async def _tell(self, notice: Row) -> None:
        if self.chance.strikes("reordered"):
            with anyio.move_on_after(HELD_BACK_S):
                await self.overtaken[notice["order_id"]].wait()
        elif self.chance.strikes("late"):
            await anyio.sleep(self.chance.faults.late_s)
        await self._insist(notice)
        if self.chance.strikes("repeated"):
            await self._insist(notice)

    async def _insist(self, notice: Row) -> None:
        for pause_s in RETRIES_S:
            if await self._taken(notice):
                await self.db.rows("taken", **notice)
                self.overtaken.pop(notice["order_id"], anyio.Event()).set()
                return
            await anyio.sleep(pause_s)

    async def _taken(self, notice: Row) -> bool:
        try:
            async with self.session.post(notice["url"], json=notice["body"], timeout=_WITHIN) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False  # nobody there; the next attempt may meet somebody
