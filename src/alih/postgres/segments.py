"""Writes folded segments into a database: staging by binary COPY, then one statement per entity and kind.

Relies on a transaction that is open in replica role: application triggers and cascades do not fire, foreign keys
are not looked at (they hold at the reading side, and verification compares the rows).
Deletes go children first, the rest parents first, so that a row's tenant can be asked of its parent.
All that needs no answer in between goes to the server at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection, errors, sql

from alih.errors import AlihError, Corrupt, NeedsOperator
from alih.model.change import Lsn
from alih.model.compaction import Kind, Segment
from alih.model.contract import Scope
from alih.model.projection import Direction, Projection
from alih.postgres import changed
from alih.postgres.collisions import collision
from alih.postgres.session import only_row
from alih.postgres.staging import Counts, Staging
from alih.postgres.statements import Statements, table

Connection = AsyncConnection[tuple[Any, ...]]

# A batch finds its rows by key, however few rows the planner believes there to be.
_PLANS = "SET enable_hashjoin = off; SET enable_mergejoin = off; SET jit = off"
_STANDING = (Kind.DELETE, Kind.REPLACE)  # what takes a row away that stands on the writing side


@dataclass(frozen=True, slots=True)
class _Step:
    """A statement, and how many rows of the entity's table it has to touch if that is known."""

    statement: sql.Composed
    projection: Projection
    expected: int | None = None


@dataclass(slots=True)
class _Staged:
    """What is staged of one entity."""

    statements: Statements
    counts: Counts
    aside: Sequence[str] = ()
    """If the rows to be updated are taken out of the table meanwhile: the columns to put back."""

    def count(self, *kinds: Kind) -> int:
        return sum(count for (kind, _), count in self.counts.items() if kind in kinds)

    def step(self, statement: sql.Composed, expected: int | None = None) -> _Step:
        return _Step(statement, self.statements.projection, expected)


class SegmentWriter:
    """Writes segments of one stream through one connection; the caller owns the transaction."""

    def __init__(self, connection: Connection, projections: Sequence[Projection]) -> None:
        by_name = {p.entity: p for p in projections}
        self._connection = connection
        self._statements = {
            p.entity: Statements(p, by_name[p.parent.entity] if p.parent else None) for p in projections
        }
        self._staging = {p.entity: Staging(p.read_columns) for p in projections}
        self._tenants = any(p.scope is Scope.TENANT for p in projections)
        self._direction = projections[0].direction
        self.noted = 0
        """Keys noted as changed, since whoever looks set it to 0."""
        self._transaction = ""
        self._filled: set[str] = set()  # staging tables that are not empty in this transaction

    async def prepare(self) -> None:
        """Make the staging tables; once per connection."""
        await self._connection.execute(_PLANS)
        for statements in self._statements.values():
            await self._connection.execute(statements.create_stage)

    async def write(self, segment: Segment, position: Lsn) -> None:
        """Apply one segment. Raises Corrupt if a statement touches another number of rows than the segment says,
        CollisionError if a row that this stream did not write stands in the way.

        Rows may hand a unique value on to each other, which works in log order and not at once: then all rows of the
        segment that are updated are taken out, changed, and put back.
        """
        try:
            async with self._connection.transaction():
                await self._write(segment, position, aside=False)
        except (errors.UniqueViolation, errors.ExclusionViolation):
            await self._write_aside(segment, position)

    async def _write_aside(self, segment: Segment, position: Lsn) -> None:
        try:
            async with self._connection.transaction():
                await self._write(segment, position, aside=True)
        except errors.UniqueViolation as violation:
            raise await self._collision(segment, violation) from None

    async def _collision(self, segment: Segment, violation: errors.UniqueViolation) -> AlihError:
        """What to say of the row in whose way another stands; the segment is staged again for the purpose."""
        at = (violation.diag.schema_name, violation.diag.table_name)
        (statements,) = (
            s for s in self._statements.values() if (s.projection.writes.schema, s.projection.writes.name) == at
        )
        await self._stage(statements, segment)
        return await collision(self._connection, statements, violation)

    async def _write(self, segment: Segment, position: Lsn, *, aside: bool) -> None:
        self.noted += len(segment)
        judging = await self._look()
        staged = [await self._stage(s, segment) for name, s in self._statements.items() if segment.folded(name)]
        judged = [part for part in staged if judging and part.statements.projection.scope is not Scope.REFERENCE]
        for part in judged:
            await self._sift(part, position, deletes=True)
        if aside:
            for part in staged:
                part.aside = await self._columns(part.statements)
        steps = [step for part in reversed(staged) for step in _deletes(part, position)]
        for part in staged:
            if part in judged:
                await self._run(steps)
                await self._sift(part, position, deletes=False)
                steps = []
            steps += _upserts(part, position)
        await self._run(steps)

    async def _look(self) -> bool:
        """Whether changes have to be judged by their tenants: the reverse stream applies those of some tenants, the
        forward stream those of all until the first is turned."""
        cursor = await self._connection.execute(
            "SELECT pg_current_xact_id()::text, EXISTS (SELECT FROM alih.flow WHERE direction = %s AND NOT applies)",
            (self._direction.value,),
        )
        transaction, turned = await only_row(cursor)
        if transaction != self._transaction:
            self._transaction, self._filled = transaction, set()
        return self._tenants and (turned or self._direction is Direction.REVERSE)

    async def _stage(self, statements: Statements, segment: Segment) -> _Staged:
        entity = statements.projection.entity
        if entity in self._filled:
            await self._connection.execute(statements.empty)
        self._filled.add(entity)
        staged = _Staged(statements, Counts())
        async with self._connection.cursor().copy(statements.fill) as copy:
            for block in self._staging[entity].blocks(segment, entity, staged.counts):
                await copy.write(block)
        if statements.drop_foreign:
            await self._connection.execute(statements.drop_foreign)
            staged.counts = await self._recounted(statements)
        return staged

    async def _sift(self, staged: _Staged, position: Lsn, *, deletes: bool) -> None:
        await self._connection.execute(staged.statements.take_strays(position, deletes=deletes))
        staged.counts = await self._recounted(staged.statements)

    async def _recounted(self, statements: Statements) -> Counts:
        cursor = await self._connection.execute(statements.counts)
        return Counts({(Kind(op), mask): count for op, mask, count in await cursor.fetchall()})

    async def _columns(self, statements: Statements) -> Sequence[str]:
        """The columns of the table that can be written."""
        cursor = await self._connection.execute(
            sql.SQL(
                "SELECT array_agg(attname::text ORDER BY attnum) FROM pg_attribute WHERE attrelid = {}::regclass"
                " AND attnum > 0 AND NOT attisdropped AND attgenerated = ''"
            ).format(sql.Literal(table(statements.projection).as_string()))
        )
        (names,) = await only_row(cursor)
        return list(names)

    async def _run(self, steps: Sequence[_Step]) -> None:
        """Run all in one message to the server, then look at what each has done."""
        if not steps:
            return
        cursor = await self._connection.execute(sql.SQL("; ").join(step.statement for step in steps))
        for step in steps:
            if step.expected not in (None, cursor.rowcount):
                raise Corrupt(
                    f"{step.projection.entity}: {cursor.rowcount} rows of {step.projection.writes} were written where"
                    f" {step.expected} had to be",
                    remedy="stop whoever else changes rows that alih copied; alih clean, then start the copy anew",
                )
            cursor.nextset()


def _deletes(staged: _Staged, position: Lsn) -> list[_Step]:
    """What goes before anything comes; noted first, while it can still be asked whose it is."""
    statements = staged.statements
    steps = []
    if gone := staged.count(*_STANDING):
        steps += [staged.step(changed.log_standing(statements, position)), staged.step(statements.delete, gone)]
    if staged.aside and (kept := staged.count(Kind.UPDATE, Kind.PARTIAL)):
        steps += [staged.step(part) for part in statements.make_aside]
        steps.append(staged.step(statements.set_aside(staged.aside), kept))
    return steps


def _upserts(staged: _Staged, position: Lsn) -> list[_Step]:
    statements, aside = staged.statements, bool(staged.aside)
    steps = []
    for (kind, mask), expected in staged.counts.items():
        if expected and kind in (Kind.UPDATE, Kind.PARTIAL, Kind.MOVE):
            _refuse_mixed(statements.projection, statements.missing(mask))
            update = statements.move(mask) if kind is Kind.MOVE else statements.update(kind, mask, aside=aside)
            steps += [] if update is None else [staged.step(update, expected)]
    if expected := staged.count(Kind.INSERT, Kind.REPLACE):
        steps.append(staged.step(statements.insert, expected))
    if aside and (expected := staged.count(Kind.UPDATE, Kind.PARTIAL)):
        steps.append(staged.step(statements.put_back(staged.aside), expected))
    if staged.counts.total() > staged.count(Kind.DELETE):
        moves = staged.count(Kind.MOVE) > 0
        steps.append(staged.step(changed.log_staged(statements, position, moves=moves)))
    return steps


def _refuse_mixed(projection: Projection, missing: frozenset[str]) -> None:
    for assignment in projection.assignments:
        if assignment.inputs & missing and not assignment.inputs <= missing:
            raise NeedsOperator(
                f"{projection.entity}: the log left out an unchanged large value that {projection.writes}."
                f"{assignment.column} is computed from",
                remedy=f"on the reading side: ALTER TABLE {projection.reads} REPLICA IDENTITY FULL (only where every"
                " column crosses), or let the field read that one column alone",
            )
