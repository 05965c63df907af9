"""The life of a follower: connected, looked at, followed, and connected again when a connection was lost.

Nothing but the stored position is carried from one connection to the next, so going on after a loss is the same as
going on after a kill. What our former sessions still hold is taken from them: a server that has not noticed the loss
keeps the slot and the stream's row locked for them.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from alih.errors import Retryable
from alih.model.projection import Projection
from alih.postgres.failures import named
from alih.postgres.follower import Follower
from alih.postgres.installation import StreamName
from alih.postgres.log import log_stream
from alih.postgres.session import Connection, connect, only_row

_PATIENCE_S = 20.0  # of losses in a row; whoever started this process has more, and starts another one
_GOOD_AFTER_S = 10.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.02, 2.0

_Session = tuple[int, object]
"""A session of ours: its process id, and when that began, for ids come again."""


@dataclass(slots=True)
class FollowerLife:
    """Follows one direction, over as many connections as it takes. DSNs by what the stream does there."""

    name: StreamName
    publications: Sequence[str]
    projections: Sequence[Projection]
    reads: str = field(repr=False)
    writes: str = field(repr=False)
    _former: dict[str, list[_Session]] = field(default_factory=dict)

    async def follow(self) -> None:
        """Apply the log until cancelled. Raises Retryable when connections were lost in a row for `_PATIENCE_S`,
        another AlihError for what a person has to see."""
        pause_s, since = _FIRST_PAUSE_S, time.monotonic()
        while True:
            begun = time.monotonic()
            try:
                await self._follow_once()
            except Retryable:
                if time.monotonic() - begun > _GOOD_AFTER_S:
                    pause_s, since = _FIRST_PAUSE_S, time.monotonic()
                elif time.monotonic() - since > _PATIENCE_S:
                    raise
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _follow_once(self) -> None:
        direction = self.name.direction
        async with AsyncExitStack() as stack:
            reads = await stack.enter_async_context(await connect(self.reads, f"the {direction.reads} database"))
            writes = await connect(self.writes, f"the {direction.writes} database", autocommit=False)
            await stack.enter_async_context(writes)
            with named(f"the {direction} stream"):
                await self._take_over(reads, self.reads)
                await self._take_over(writes, self.writes)
                await writes.commit()
            log, identity = await stack.enter_async_context(log_stream(self.reads, direction))
            self._former.setdefault(self.reads, []).append(await _session(log.connection))
            follower = Follower(direction, self.projections, writes, reads)
            await follower.follow(log, identity, str(self.name), self.publications)

    async def _take_over(self, connection: Connection, dsn: str) -> None:
        """End what is left of this follower's former sessions there, and note this one."""
        for pid, begun in self._former.pop(dsn, []):
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s AND backend_start = %s",
                (pid, begun),
            )
        self._former.setdefault(dsn, []).append(await _session(connection))


async def _session(connection: Connection) -> _Session:
    cursor = await connection.execute("SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()")
    pid, begun = await only_row(cursor)
    return pid, begun
