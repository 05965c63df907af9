"""Makes rows of the writing side equal to the reading side's again, while writes go on.

The reading side's row is fetched, then looked at as verification does: under a snapshot S, with a cut, while the stream
is held behind it (`looking`). Only a key whose rows are the same version on both sides is mended, and only with a
fetched row whose hash is that of the row under S. **So the writing side gets the very row that S saw, at a position
that has applied everything S saw of the key and nothing else of it**: what the stream brings later is what followed on
that row. The rows, and the record of what was done to them, are committed while the stream is still held. A key that is
changed meanwhile is tried again; one whose tenant was turned over belongs to the writing side and is left alone.

Rows are written as the stream writes them: in replica role, marked as alih's own, counted.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from psycopg import AsyncConnection, sql

from alih.errors import Corrupt
from alih.faults import Point, reached
from alih.model.finding import Finding, Image, finding
from alih.model.projection import Direction, Projection
from alih.postgres import positions
from alih.postgres.comparison import reading_side
from alih.postgres.looking import Held, Looking, Read
from alih.postgres.positions import Applied
from alih.postgres.replacing import Replacement
from alih.postgres.scanning import Key, Suspect
from alih.postgres.statements import trusted

Connection = AsyncConnection[tuple[Any, ...]]

_AT_ONCE = 100  # rows fetched and written in one transaction
_ATTEMPTS = 200
_ASK_AGAIN_S, _ASK_AGAIN_MOST_S = 0.001, 0.05


class Repair:
    """Repairs one direction. The connections are its own, in autocommit, prepared as a verifier's are; `by` is the
    account that asked for it."""

    def __init__(
        self, projections: Sequence[Projection], reads: Connection, writes: Connection, applied: Applied, by: str
    ) -> None:
        self._projections = projections
        self._reads, self._writes = reads, writes
        self._applied = applied
        self._by = by

    async def mend(self, findings: Iterable[Finding]) -> list[Finding]:
        """Make the rows of these findings equal; returns what was mended, as it was found just before. Raises
        NeedsOperator if a row that alih did not write stands in the way. Rows that change too fast stay as they are:
        verification says so."""
        keys: dict[str, list[Suspect]] = {}
        for each in findings:
            keys.setdefault(each.entity, []).append(Suspect(each.key, None))
        mended: list[Finding] = []
        for projection in self._projections:
            mine = keys.get(projection.entity, [])
            for start in range(0, len(mine), _AT_ONCE):
                mended += await self._mend(projection, mine[start : start + _AT_ONCE])
        return mended

    async def _mend(self, projection: Projection, suspects: list[Suspect]) -> list[Finding]:
        looking = Looking(projection, self._reads, self._writes, self._applied)
        mended: list[Finding] = []
        for attempt in range(_ATTEMPTS):
            suspects = await looking.located(suspects)
            done, over = await self._attempt(projection, looking, suspects)
            mended += done
            suspects = [s for s in suspects if s.write_key not in over]
            if not suspects:
                break
            await asyncio.sleep(min(_ASK_AGAIN_S * attempt, _ASK_AGAIN_MOST_S))
        return mended

    async def _attempt(
        self, projection: Projection, looking: Looking, suspects: Sequence[Suspect]
    ) -> tuple[list[Finding], set[Key]]:
        """What was mended, and which keys need nothing more."""
        replacement = Replacement(projection, self._writes)
        staged = await replacement.stage(await self._fetched(projection, suspects))
        read = await looking.read(suspects)
        async with looking.held(read, suspects) as held:
            differing = _differing(projection, suspects, read, held)
            ready = [each for each in differing if _ready(each.key, read, held, staged)]
            await positions.mark_own(self._writes)
            await replacement.write(ready)
            await self._assert_equal(looking, ready, read)
            await self._record(projection.direction, ready, held)
            reached(Point.REPAIR_WRITTEN)
        reached(Point.REPAIR_COMMITTED)
        waiting = {each.key for each in differing} - held.away - {each.key for each in ready}
        return ready, {s.write_key for s in suspects} - waiting

    async def _fetched(self, projection: Projection, suspects: Sequence[Suspect]) -> bytes:
        """The reading side's rows, as they are to be written: binary COPY."""
        known = [s.read_key for s in suspects if s.read_key is not None]
        unknown = [s.write_key for s in suspects if s.read_key is None]
        side = reading_side(projection)
        query = sql.SQL("COPY ({} UNION ALL {}) TO STDOUT (FORMAT binary)").format(
            *(_selected(projection, source) for source in (side.by_own_key(known), side.by_key(unknown)))
        )
        async with self._reads.cursor().copy(query) as copy:
            return b"".join([bytes(block) async for block in copy])

    async def _assert_equal(self, looking: Looking, ready: Sequence[Finding], read: Read) -> None:
        """What was written is what S saw: asserted before it is committed."""
        now = await looking.written([each.key for each in ready])
        if wrong := [each for each in ready if _hash(now, each.key) != _hash(read.rows, each.key)]:
            raise Corrupt(
                f"{wrong[0].entity}: {len(wrong)} rows are still different after they were written",
                remedy="a trigger of the writing side changes what alih writes: see those that are ENABLE ALWAYS",
            )

    async def _record(self, direction: Direction, ready: Sequence[Finding], held: Held) -> None:
        async with self._writes.cursor() as cursor:
            await cursor.executemany(
                "INSERT INTO alih.repair (direction, entity, write_key, cause, columns, hash_before, hash_after,"
                " position, repaired_by) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)",
                [
                    (
                        direction.value,
                        each.entity,
                        list(each.key),
                        each.cause.value,
                        list(each.columns),
                        each.document()["hashes"][1],
                        each.document()["hashes"][0],
                        str(held.position),
                        self._by,
                    )
                    for each in ready
                ],
            )


def _differing(projection: Projection, suspects: Iterable[Suspect], read: Read, held: Held) -> list[Finding]:
    names = [a.column for a in projection.assignments]
    keys = (s.write_key for s in suspects)
    found = (finding(projection.entity, key, names, read.rows.get(key), held.rows.get(key)) for key in keys)
    return [each for each in found if each is not None]


def _ready(key: Key, read: Read, held: Held, staged: Mapping[Key, int]) -> bool:
    """Whether what was fetched is what S saw, and S saw what the writing side should have here."""
    return key in held.settled - held.away and staged.get(key) == _hash(read.rows, key)


def _hash(rows: Mapping[Key, Image], key: Key) -> int | None:
    return rows[key].hash if key in rows else None


def _selected(projection: Projection, source: sql.Composed) -> sql.Composed:
    return sql.SQL("SELECT {} {}").format(sql.SQL(", ").join(trusted(a.sent) for a in projection.assignments), source)
