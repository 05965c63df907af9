"""What was kept aside while a chunk was copied, applied to its rows in log order."""

from collections.abc import AsyncIterator
from typing import Any

from psycopg import AsyncConnection

from alih.errors import Retryable
from alih.model.change import Change, Delete, Insert, Lsn, Row, Update
from alih.model.compaction import Segment, moved, moves_key
from alih.model.stitching import Chunk, EntityChunks, Forget, Keep, Part, Reread, Write, one_row, route
from alih.postgres.pgoutput import decode
from alih.postgres.segments import SegmentWriter

Connection = AsyncConnection[tuple[Any, ...]]

_REPLAY = 20_000  # changes folded at a time
_AHEAD = 10  # times that many are replayed, at most, before the rest is left for the time under the lock


class ReplayAnewError(Retryable):
    """A row that is a chunk of its own arrived once more, and again not whole: another snapshot has to be taken."""


class SpoolReplay:
    """Replays one chunk's spool, in the transaction in which its rows were copied. `seen` are the entity's chunks as
    this copy sees them: its own done, under the snapshot that it was read with."""

    def __init__(
        self, connection: Connection, writer: SegmentWriter, entity: str, chunk: Chunk, seen: EntityChunks
    ) -> None:
        self._connection = connection
        self._writer = writer
        self._entity = entity
        self._chunk = chunk
        self._seen = seen
        self._last = 0
        self._segment = Segment()
        self.reread: list[Row] = []
        """Keys of rows that did not arrive whole: they become chunks of their own."""
        self.dropped: set[int] = set()
        """The transactions whose changes of those rows were dropped."""

    async def ahead(self, position: Lsn) -> None:
        """Replay what is there already, though more may come meanwhile."""
        await self._replay(position, _AHEAD)

    async def rest(self, position: Lsn) -> None:
        """Replay to the end; the caller holds the stream, so that nothing comes meanwhile."""
        await self._replay(position, None)

    async def _replay(self, position: Lsn, parts: int | None) -> None:
        async for changes in self._spooled(parts):
            for xid, data in changes:
                change = decode(data)
                if isinstance(change, Insert | Update | Delete):
                    for part in route(self._seen, change, xid):
                        await self._take(part, xid, position)
            await self._flush(position)

    async def _spooled(self, parts: int | None) -> AsyncIterator[list[tuple[int, bytes]]]:
        while parts is None or parts > 0:
            cursor = await self._connection.execute(
                "SELECT ordinal, xid, change FROM alih.spool WHERE chunk = %s AND ordinal > %s"
                " ORDER BY ordinal LIMIT %s",
                (self._chunk.id, self._last, _REPLAY),
            )
            rows = await cursor.fetchall()
            if not rows:
                return
            self._last = rows[-1][0]
            yield [(xid, change) for _, xid, change in rows]
            parts = parts if parts is None else parts - 1

    async def _take(self, part: Part, xid: int, position: Lsn) -> None:
        match part:
            case Write(change):
                await self._write(change, xid, position)
            case Reread(key):
                if key == self._chunk.row_key:
                    raise ReplayAnewError(
                        "a row changed its key while it was read", remedy="run the same command again"
                    )
                self._seen.add_row(one_row(0, key))
                self.reread.append(key)
                self.dropped.add(xid)
            case Forget(remember):
                if remember:
                    self.dropped.add(xid)
            case Keep():
                raise AssertionError("nothing is spooled twice")

    async def _write(self, change: Change, xid: int, position: Lsn) -> None:
        places = self._seen.key_places
        if isinstance(change, Update) and moves_key(change, places):
            await self._flush(position)
            await self._writer.write(moved(self._entity, places, change, xid), position)
        else:
            self._segment.fold(self._entity, places, change, xid)

    async def _flush(self, position: Lsn) -> None:
        segment, self._segment = self._segment, Segment()
        if len(segment):
            await self._writer.write(segment, position)
