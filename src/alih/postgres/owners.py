"""What the gate asks the databases: who owns a tenant, and whether one side has what the other had."""

import asyncio
import time
from dataclasses import dataclass, field

import psycopg

from alih.errors import Refused, Retryable
from alih.model.side import Side
from alih.postgres import positions
from alih.postgres.control import Control
from alih.postgres.line import Line
from alih.postgres.positions import Applied

_FRESH_S = 0.005  # reads that arrive together share one look at the other side
_WITHIN_S = 2.0


async def side_of(control: Control, tenant: str) -> Side:
    """Who owns the tenant; the source, for one that no cohort has taken. Raises Retryable if that cannot be read."""
    try:
        return (await control.owner(tenant)).side
    except Refused:
        return Side.SOURCE
    except psycopg.Error as unread:
        raise Retryable("the owner row cannot be read", remedy="bring the control database back") from unread


@dataclass(slots=True)
class ReadBarrier:
    """Reads over many tenants wait until the side that answers has what the other side had when they came.

    While the shared rows are at the source, the source answers, and what moved tenants wrote comes back to it by the
    reverse stream. As long as none has moved, or once the shared rows have, there is nothing to wait for.
    Raises Retryable when that takes too long, or while a database is away.
    """

    control: Control
    target: Line
    reverse: Applied
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    _fresh_until: float = 0.0

    async def passed(self) -> None:
        """Return when the barrier is passed."""
        asked_at = time.monotonic()
        async with self._turn:
            if asked_at < self._fresh_until:
                return
            looked_at = time.monotonic()
            await self._look()
            self._fresh_until = looked_at + _FRESH_S

    async def _look(self) -> None:
        if await self.control.split():
            async with self.target.connection() as target:
                cut = await positions.cut(target)
            await self.reverse.reached(cut, _WITHIN_S)
