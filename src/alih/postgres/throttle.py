"""How hard a copy presses the databases, kept within the contract's limits; asked between blocks of rows.

A copy that waits here holds its snapshot and its claim, so it waits for the databases and not for a person: `alih
pause` acts between chunks.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from psycopg import AsyncConnection

from alih.errors import NeedsOperator
from alih.model.contract import CopyLimits
from alih.postgres.session import only_row
from alih.postgres.sql import query

Connection = AsyncConnection[tuple[Any, ...]]
Pace = Callable[[int], Awaitable[None]]

_MB = 1_000_000
_LOOK_EVERY_S = 0.5  # at the replicas and at the target


class Throttle:
    """One process's share; `reads` and `writes` are connections of its own, in autocommit."""

    def __init__(self, limits: CopyLimits, reads: Connection, writes: Connection) -> None:
        self._limits = limits
        self._reads, self._writes = reads, writes
        self._free_at = time.monotonic()
        self._look_at = 0.0
        self._looking = asyncio.Lock()

    async def passed(self, size: int) -> None:
        """So many bytes have been read: return when more may be."""
        now = time.monotonic()
        if self._limits.rate_mb_per_s is not None:
            self._free_at = max(self._free_at, now) + size / (self._limits.rate_mb_per_s * _MB)
            await asyncio.sleep(max(0.0, self._free_at - now))
        async with self._looking:
            # A replica tells nobody that it has caught up.
            while time.monotonic() >= self._look_at and await self._too_slow():  # noqa: ASYNC110
                await asyncio.sleep(_LOOK_EVERY_S)

    async def _too_slow(self) -> bool:
        """Look, and say whether a limit is passed; if none is, nobody looks for a while."""
        lag_ms, latency_ms = self._limits.max_replica_lag_ms, self._limits.max_target_latency_ms
        if lag_ms is not None and await self._lag_ms() > lag_ms:
            return True
        if latency_ms is not None and await self._latency_ms() > latency_ms:
            return True
        self._look_at = time.monotonic() + _LOOK_EVERY_S
        return False

    async def _lag_ms(self) -> float:
        """The worst of all physical replicas of either side."""
        return max([await _lag_ms(self._reads, "source"), await _lag_ms(self._writes, "target")])

    async def _latency_ms(self) -> float:
        """How long the target takes for the smallest commit that is durable."""
        begun = time.monotonic()
        async with self._writes.transaction():
            await self._writes.execute("SET LOCAL synchronous_commit = on")
            await self._writes.execute("SELECT pg_logical_emit_message(true, 'alih.pulse', '')")
        return (time.monotonic() - begun) * 1000


async def _lag_ms(connection: Connection, side: str) -> float:
    lag_ms, hidden = await only_row(await connection.execute(query("replica_lag")))
    if hidden:
        raise NeedsOperator(
            f"the {side} has replicas whose lag the role may not see, and the contract limits it",
            remedy="GRANT pg_read_all_stats to alih's role, or take max_replica_lag_ms out of the contract",
        )
    return float(lag_ms)
