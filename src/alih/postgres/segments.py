"""Writes folded segments into a database: staging by binary COPY, then one statement per entity and kind.

Relies on a transaction that is open in replica role: application triggers and cascades do not fire, foreign keys
are not looked at (they hold at the reading side, and verification compares the rows).
Deletes go children first, the rest parents first, so that a row's tenant can be asked of its parent.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from struct import pack
from typing import Any

from psycopg import AsyncConnection, errors, sql

from alih.errors import AlihError, Corrupt, NeedsOperator
from alih.model.change import NULL, Lsn
from alih.model.compaction import Kind, RowChange, Segment
from alih.model.contract import Scope
from alih.model.projection import Projection
from alih.postgres import changed
from alih.postgres.collisions import collision
from alih.postgres.statements import Statements

_HEADER = b"PGCOPY\n\xff\r\n\0" + pack("!II", 0, 0)
_TRAILER = pack("!h", -1)
_BUFFER = 1 << 17

Connection = AsyncConnection[tuple[Any, ...]]


class SegmentWriter:
    """Writes segments of one stream through one connection; the caller owns the transaction."""

    def __init__(self, connection: Connection, projections: Sequence[Projection]) -> None:
        by_name = {p.entity: p for p in projections}
        self._connection = connection
        self._statements = {
            p.entity: Statements(p, by_name[p.parent.entity] if p.parent else None) for p in projections
        }
        self._tenants = any(p.scope is Scope.TENANT for p in projections)

    async def prepare(self) -> None:
        """Make the staging tables; once per connection."""
        for statements in self._statements.values():
            await self._connection.execute(statements.create_stage)

    async def write(self, segment: Segment, position: Lsn) -> None:
        """Apply one segment. Raises Corrupt if a statement touches another number of rows than the segment says,
        CollisionError if a row that this stream did not write stands in the way.

        Rows may hand a unique value on to each other, which works in log order and not at once: a segment in which a
        row stands in the way is written in halves.
        """
        try:
            async with self._connection.transaction():
                await self._write(segment, position)
        except errors.UniqueViolation as violation:
            if len(segment.history) < 2:
                raise await self._collision(segment, violation) from None
            for half in segment.halves():
                await self.write(half, position)

    async def _collision(self, segment: Segment, violation: errors.UniqueViolation) -> AlihError:
        """What to say of the one row at hand, which is staged again for the purpose."""
        (statements,) = (s for name, s in self._statements.items() if segment.of(name))
        await self._stage(statements, segment.of(statements.projection.entity))
        return await collision(self._connection, statements, violation)

    async def _write(self, segment: Segment, position: Lsn) -> None:
        present = [s for name, s in self._statements.items() if segment.of(name)]
        for statements in present:
            await self._stage(statements, segment.of(statements.projection.entity))
        for statements in reversed(present):
            await self._delete(statements, position)
        for statements in present:
            await self._upsert(statements, position)

    async def _stage(self, statements: Statements, changes: Iterable[RowChange]) -> None:
        await self._connection.execute(statements.empty)
        key_places = tuple(i for i, c in enumerate(statements.projection.read_columns) if c.key)
        async with self._connection.cursor().copy(statements.fill) as copy:
            block = bytearray(_HEADER)
            for change in changes:
                block += _staged(change, key_places)
                if len(block) > _BUFFER:
                    await copy.write(bytes(block))
                    block.clear()
            await copy.write(bytes(block) + _TRAILER)
        if statements.drop_foreign:
            await self._connection.execute(statements.drop_foreign)

    async def _delete(self, statements: Statements, position: Lsn) -> None:
        if self._tenants and statements.projection.scope is not Scope.REFERENCE:
            await self._connection.execute(statements.tenant_of_written)
            await self._connection.execute(statements.take_strays(position, deletes=True))
        counts = await self._counts(statements)
        if expected := counts[Kind.DELETE, ""] + counts[Kind.REPLACE, ""]:
            await self._run(statements.delete, expected, statements)

    async def _upsert(self, statements: Statements, position: Lsn) -> None:
        if self._tenants and statements.projection.scope is not Scope.REFERENCE:
            await self._connection.execute(statements.tenant_of_staged)
            await self._connection.execute(statements.take_strays(position, deletes=False))
        counts = await self._counts(statements)
        for (kind, mask), expected in counts.items():
            if kind in (Kind.UPDATE, Kind.PARTIAL, Kind.MOVE):
                await self._update(statements, kind, mask, expected)
        if expected := counts[Kind.INSERT, ""] + counts[Kind.REPLACE, ""]:
            await self._run(statements.insert, expected, statements)
        if counts.total():
            await self._connection.execute(changed.log_changed(statements, position))

    async def _update(self, statements: Statements, kind: Kind, mask: str, expected: int) -> None:
        """Update the rows in which the same columns, those of `mask`, did not arrive."""
        columns = statements.projection.read_columns
        missing = frozenset(columns[int(place)].name for place in mask.split(",") if place)
        _refuse_mixed(statements.projection, missing)
        update = statements.move(missing) if kind is Kind.MOVE else statements.update(kind, missing, mask)
        if update is not None:
            await self._run(update, expected, statements)

    async def _counts(self, statements: Statements) -> Counter[tuple[Kind, str]]:
        cursor = await self._connection.execute(statements.counts)
        return Counter({(Kind(op), mask): count for op, mask, count in await cursor.fetchall()})

    async def _run(self, statement: sql.Composed, expected: int, statements: Statements) -> None:
        cursor = await self._connection.execute(statement)
        if cursor.rowcount != expected:
            raise Corrupt(
                f"{statements.projection.entity}: {cursor.rowcount} rows of {statements.projection.writes} were written"
                f" where {expected} had to be",
                remedy="stop whoever else changes rows that alih copied; alih clean, then start the copy anew",
            )


def _staged(change: RowChange, key_places: tuple[int, ...]) -> bytes:
    """One binary COPY row of the staging table."""
    old = [change.old[place] or NULL if change.old else NULL for place in key_places]
    cells = [NULL if cell is None else cell for cell in change.row]
    mask = _mask(change.missing).encode()
    head = (b"\0\0\0\1" + change.kind.value.encode(), pack("!i", len(mask)) + mask, pack("!iq", 8, change.xid))
    return b"".join((pack("!h", 3 + len(old) + len(cells)), *head, *old, *cells))


def _mask(missing: frozenset[int]) -> str:
    """The columns that did not arrive, as a word: rows lacking the same columns are updated together."""
    return ",".join(map(str, sorted(missing)))


def _refuse_mixed(projection: Projection, missing: frozenset[str]) -> None:
    for assignment in projection.assignments:
        if assignment.inputs & missing and not assignment.inputs <= missing:
            raise NeedsOperator(
                f"{projection.entity}: the log left out an unchanged large value that {projection.writes}."
                f"{assignment.column} is computed from",
                remedy=f"on the reading side: ALTER TABLE {projection.reads} REPLICA IDENTITY FULL (only where every"
                " column crosses), or let the field read that one column alone",
            )
