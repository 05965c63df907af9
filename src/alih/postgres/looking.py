"""Both sides' rows at one position of the log, while writes go on.

The reading side's rows are read under a snapshot S, and in the same transaction a cut is written into the log. Then
the stream is held where it has applied the cut (by its row, which each of its batches begins with), and the writing
side's rows are read, with the transaction x that was last applied to each key.

**If S sees x, both rows are the same version.** Whatever S sees of a key was committed before the cut and is applied.
The changes of one key are committed one after another (a writer waits for the one before it), so S sees a beginning
of them; it sees x, and what is applied after x is nothing. Hence the last change that S sees of the key is x, which is
also the last one applied. x is the transaction as its Begin names it, so a savepoint makes no difference.

A key that nothing is noted for has not changed since it was copied or found equal, which S sees as well; unless
somebody has forgotten it in between: then look again. So it is with a key that S does not see the last change of, and
while a chunk is not done: its changes are kept aside. A hot row is decided as soon as no change of it falls between S
and the cut, some hundred microseconds.

What the stream does not apply, because its tenant was turned over, is not looked at: the writing side may go its own
way from there. While the stream is held before that turn, nobody writes there.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection, sql

from alih.errors import Retryable
from alih.model.change import Lsn
from alih.model.chunk import Snapshot
from alih.model.finding import Image
from alih.model.projection import Direction, Projection
from alih.postgres import changed, chunks, positions
from alih.postgres.changed import Touched
from alih.postgres.comparison import reading_side, writing_side
from alih.postgres.positions import Applied
from alih.postgres.scanning import Key, Suspect

Connection = AsyncConnection[tuple[Any, ...]]

_APPLIED_WITHIN_S = 60.0
_LOOK_EVERY_S = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What the reading side has of some keys under `snapshot`; `cut` stands behind all that it sees.

    `forgettings` is how often changed keys had been forgotten before it was taken."""

    rows: Mapping[Key, Image]
    snapshot: Snapshot
    cut: Lsn
    forgettings: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What the writing side has of the same keys while the stream is held at `position`, behind the cut.

    `settled` are the keys whose rows are the same version on both sides; `away` those that the stream leaves alone."""

    rows: Mapping[Key, Image]
    settled: frozenset[Key]
    away: frozenset[Key]
    position: Lsn


class Looking:
    """Looks at one entity's keys. The connections are the caller's, in autocommit, with pinned settings."""

    def __init__(self, projection: Projection, reads: Connection, writes: Connection, applied: Applied) -> None:
        self._projection = projection
        self._reads, self._writes = reads, writes
        self._applied = applied
        self._here, self._there = reading_side(projection), writing_side(projection)

    async def located(self, suspects: Sequence[Suspect]) -> list[Suspect]:
        """The suspects, those that only the writing side had with their reading side's key, where the stream has
        brought a change of them."""
        unknown = [s.write_key for s in suspects if s.read_key is None]
        if not unknown:
            return list(suspects)
        found = await changed.applied(self._writes, self._direction, self._projection.entity, unknown)
        return [
            s if s.read_key or s.write_key not in found else Suspect(s.write_key, found[s.write_key].read_key)
            for s in suspects
        ]

    async def read(self, suspects: Sequence[Suspect]) -> Read:
        """The reading side's rows and a cut, in one round trip: the less between the two, the fewer ask again."""
        forgettings = await self._forgettings()
        known = [s.read_key for s in suspects if s.read_key is not None]
        unknown = [s.write_key for s in suspects if s.read_key is None]
        queries = [self._here.images(known)] if known else []
        queries += [self._here.images_scanned(unknown)] if unknown else []
        cursor = await self._reads.execute(
            sql.SQL(
                "BEGIN ISOLATION LEVEL REPEATABLE READ; SET LOCAL synchronous_commit = on;"
                " SELECT pg_current_snapshot()::text; {}; SELECT pg_logical_emit_message(true, {}, '')::text; COMMIT"
            ).format(sql.SQL("; ").join(queries), sql.Literal(positions.CUT)),
            prepare=False,
        )
        results = []
        while True:
            if cursor.description:
                results.append(await cursor.fetchall())
            if not cursor.nextset():
                break
        ((snapshot,),), *found, ((cut,),) = results
        rows = {key: image for rows in found for key, image in _images(rows)}
        return Read(rows=rows, snapshot=Snapshot.parse(snapshot), cut=Lsn.parse(cut), forgettings=forgettings)

    @asynccontextmanager
    async def held(self, read: Read, suspects: Sequence[Suspect]) -> AsyncIterator[Held]:
        """The stream is held while the context is open, in a transaction of the writing side that is committed at its
        end. Raises Retryable if the stream does not come to the cut."""
        async with AsyncExitStack() as stack:
            position = await self._stop_behind(read.cut, stack)
            yield await self._held(read, suspects, position)

    async def _held(self, read: Read, suspects: Sequence[Suspect], position: Lsn) -> Held:
        keys = [s.write_key for s in suspects]
        rows = await self.written(keys)
        touched = await changed.applied(self._writes, self._direction, self._projection.entity, keys)
        quiet = not await self._kept_aside() and await self._forgettings() == read.forgettings
        turned = await self._turned()
        tenants = {key: {i.tenant for i in (read.rows.get(key), rows.get(key)) if i} for key in keys}
        return Held(
            rows=rows,
            settled=frozenset(key for key in keys if quiet and _seen(touched.get(key), read.snapshot)),
            away=frozenset(key for key in keys if any(turned(tenant) for tenant in tenants[key])),
            position=position,
        )

    async def written(self, keys: Sequence[Key]) -> dict[Key, Image]:
        """The writing side's rows as they are now."""
        return dict(_images(await (await self._writes.execute(self._there.images(keys))).fetchall()))

    async def still(self, suspects: Sequence[Suspect]) -> tuple[Mapping[Key, Image], Mapping[Key, Image]]:
        """Both sides' rows where nobody writes, and all is applied."""
        known = [s.read_key for s in suspects if s.read_key is not None]
        here = await (await self._reads.execute(self._here.images(known))).fetchall()
        return dict(_images(here)), await self.written([s.write_key for s in suspects])

    async def _stop_behind(self, cut: Lsn, stack: AsyncExitStack) -> Lsn:
        """Hold the stream's row, until `stack` is closed, from a moment at which `cut` is applied. Each batch that ends
        meanwhile is looked at: the one that ends with the cut is the best to stop behind."""
        deadline = time.monotonic() + _APPLIED_WITHIN_S
        while time.monotonic() < deadline:
            async with AsyncExitStack() as attempt:
                await attempt.enter_async_context(self._writes.transaction())
                position = (await chunks.hold_stream(self._writes, self._direction)).position
                if position >= cut:
                    stack.push_async_exit(attempt.pop_all())
                    return position
            await self._applied.position()  # raises what the stream has stopped for
            await asyncio.sleep(_LOOK_EVERY_S)
        raise Retryable(
            f"the {self._direction} stream did not reach {cut} within {_APPLIED_WITHIN_S:g} s",
            remedy="see alih status for its lag; wait until it is small, then run again",
        )

    async def _turned(self) -> Callable[[str | None], bool]:
        """Says of a tenant whether this stream leaves its rows alone."""
        cursor = await self._writes.execute(
            "SELECT tenant, applies FROM alih.flow WHERE direction = %s", (self._direction.value,)
        )
        applies: dict[str | None, bool] = dict(await cursor.fetchall())
        return lambda tenant: not applies.get(tenant, self._direction is Direction.FORWARD)

    async def _kept_aside(self) -> bool:
        cursor = await self._writes.execute(
            "SELECT EXISTS (SELECT FROM alih.chunk WHERE direction = %s AND entity = %s AND state <> 'done')",
            (self._direction.value, self._projection.entity),
        )
        return await cursor.fetchone() == (True,)

    async def _forgettings(self) -> int:
        cursor = await self._writes.execute(
            "SELECT coalesce(max(times), 0) FROM alih.verified WHERE direction = %s", (self._direction.value,)
        )
        ((times,),) = await cursor.fetchall()
        return int(times)

    @property
    def _direction(self) -> Direction:
        return self._projection.direction


def _seen(touched: Touched | None, snapshot: Snapshot) -> bool:
    return touched is None or snapshot.sees(touched.xid)


def _images(rows: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Key, Image]]:
    for key, number, columns, tenant in rows:
        yield tuple(key), Image(number, tuple(columns), tenant)
