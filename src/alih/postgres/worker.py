"""The queue of chunks in the writing side's database, and a worker that takes from it until nothing is left.

A chunk is claimed by a lock of the session that writes its rows. A worker that dies, in whatever way, ends its session,
and with it go lock and rows: the chunk is free again, and begun anew by whoever looks next.
"""

import time
from collections.abc import Mapping
from typing import Any

from psycopg import AsyncConnection

from alih.errors import Retryable
from alih.model.change import Lsn
from alih.model.projection import Direction, Projection
from alih.model.stitching import Chunk, EntityChunks
from alih.postgres import chunks, positions
from alih.postgres.copying import ChunkCopy, Desk
from alih.postgres.failures import named
from alih.postgres.segments import SegmentWriter
from alih.postgres.session import only_row

Connection = AsyncConnection[tuple[Any, ...]]

_CLAIM = 0x616C6963  # "alic": the class of the advisory locks on chunks
_CANDIDATES = 1000
_PAST_WITHIN_S = 600.0
_LOOK_EVERY_S = 1.0  # a worker that was killed tells nobody


class Worker:
    """Copies chunks of one direction, one at a time."""

    def __init__(self, direction: Direction, desk: Desk) -> None:
        self._direction = direction
        self._desk = desk
        self._writes = desk.writes
        self._writer = SegmentWriter(desk.writes, desk.projections)
        self._projections: Mapping[str, Projection] = {p.entity: p for p in desk.projections}
        self._past: Lsn | None = None  # where the stream has to come once all is done, and by when
        self._until = 0.0

    async def work(self) -> int:
        """Take chunks until all are done and nothing can be added to them; returns how many were copied here."""
        copied = 0
        with named("the queue of chunks"):
            await self._writes.execute(f"LISTEN {chunks.CHANNEL}; LISTEN {positions.CHANNEL}")
            await self._writes.execute("SET session_replication_role = replica")
            await self._writer.prepare()
            await self._writes.commit()
            while not await self._finished():
                claimed = await self._claim()
                if claimed is None:
                    await self._stirred()
                    continue
                copied += await self._copy(*claimed)
        return copied

    async def _finished(self) -> bool:
        """All done. Where there are several chunks, a change that one snapshot saw and another did not may still
        make a row a chunk of its own, until the follower is past them all. Raises Retryable if that takes too long."""
        if not await self._all_done():
            return False
        if max((len(c) for c in (await self._read(self._projections)).values()), default=0) < 2:
            return True
        if self._past is None or self._past < await self._settled():
            self._past, self._until = await self._desk.cut(), time.monotonic() + _PAST_WITHIN_S
        if time.monotonic() > self._until:
            raise Retryable(
                f"the {self._direction} stream did not come past the copied rows within {_PAST_WITHIN_S:g} s",
                remedy="all chunks are done; let the stream be followed (see alih status for its lag), then run again",
            )
        return await self._desk.position() >= self._past and await self._all_done()

    async def _all_done(self) -> bool:
        cursor = await self._writes.execute(
            "SELECT NOT EXISTS (SELECT FROM alih.chunk WHERE direction = %s AND state <> 'done' AND entity = ANY(%s))",
            (self._direction.value, list(self._projections)),
        )
        (done,) = await only_row(cursor)
        await self._writes.commit()
        return bool(done)

    async def _settled(self) -> Lsn:
        """No snapshot of a chunk has seen what commits from there on."""
        cursor = await self._writes.execute(
            "SELECT coalesce(max(settled), '0/0')::text FROM alih.chunk WHERE direction = %s", (self._direction.value,)
        )
        (settled,) = await only_row(cursor)
        await self._writes.commit()
        return Lsn.parse(settled)

    async def _claim(self) -> tuple[Chunk, EntityChunks, Projection] | None:
        """A chunk that nobody else copies now, in the contract's order."""
        cursor = await self._writes.execute(
            "SELECT c.id, c.entity FROM alih.chunk c JOIN alih.stream s USING (direction)"
            " WHERE direction = %s AND c.state <> 'done' AND c.entity = ANY(%s) AND NOT s.paused"
            " ORDER BY c.id LIMIT %s",
            (self._direction.value, list(self._projections), _CANDIDATES),
        )
        for number, entity in await cursor.fetchall():
            if await self._lock(number):
                projection = self._projections[entity]
                of_entity = (await self._read({entity: projection}))[entity]
                return of_entity.chunk(number), of_entity, projection
        await self._writes.commit()
        return None

    async def _copy(self, chunk: Chunk, of_entity: EntityChunks, projection: Projection) -> bool:
        done = await ChunkCopy(chunk, of_entity, projection, self._desk, self._writer).copy()
        await self._writes.execute("SELECT pg_advisory_unlock(%s, %s)", (_CLAIM, chunk.id))
        await self._writes.commit()
        return done

    async def _lock(self, number: int) -> bool:
        (held,) = await only_row(await self._writes.execute("SELECT pg_try_advisory_lock(%s, %s)", (_CLAIM, number)))
        return bool(held)

    async def _read(self, projections: Mapping[str, Projection]) -> Mapping[str, EntityChunks]:
        found = await chunks.read(self._writes, self._direction, projections)
        await self._writes.commit()
        return found

    async def _stirred(self) -> None:
        async for _ in self._writes.notifies(timeout=_LOOK_EVERY_S, stop_after=1):
            pass
