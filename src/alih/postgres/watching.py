"""What the log depends on and does not tell: tables taken out of the publication, partitions that bring rows along.

Looked at when the stream begins, whenever the log describes a table, and every few seconds. How tables were offered
at first is stored beside the position, so what happens while nobody follows is noticed too.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection
from psycopg.rows import class_row

from alih.errors import NeedsOperator
from alih.model.change import Lsn, Relation
from alih.model.chunk import Snapshot
from alih.model.projection import Direction, Projection
from alih.postgres import positions
from alih.postgres.sql import query

Connection = AsyncConnection[tuple[Any, ...]]

_ASK_AGAIN_S = 0.05
_EVERY_S = 3.0
_ASKED = 600  # 30 s of asking
_ANEW = "alih clean, then start the copy anew"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Offered:
    """A table as the reading side offers it now; the fields are explained in sql/offered.sql."""

    schema: str
    name: str
    number: int
    columns: list[str]
    published: str | None
    identity: str
    partitions: list[int]
    partition_names: list[str]
    attached: list[int]
    seen: str

    @property
    def parts(self) -> Mapping[int, str]:
        return dict(zip(self.partitions, self.partition_names, strict=True))


@dataclass(frozen=True, slots=True)
class _Stored:
    """What of it is stored; `columns` are those that cross."""

    columns: list[str]
    published: str | None
    identity: str
    partitions: Mapping[int, str]


class Watch:
    """The tables of one stream. `reads` is a connection to the reading side in autocommit, `writes` one to the
    writing side whose transactions are the caller's."""

    def __init__(
        self, direction: Direction, projections: Sequence[Projection], reads: Connection, writes: Connection
    ) -> None:
        self._direction = direction
        self._by_table = {(p.reads.schema, p.reads.name): p for p in projections}
        self._reads = reads
        self._writes = writes
        self._publications: Sequence[str] = ()
        self._types: Mapping[str, int] = {}
        self._columns: dict[tuple[str, str], list[str]] = {}
        self._stored: dict[str, _Stored] = {}
        self._described: set[int] = set()
        self._doubt = asyncio.Event()

    async def begin(self, publications: Sequence[str]) -> None:
        """Compare with what is stored, or store it the first time; the caller commits. Raises NeedsOperator."""
        self._publications = publications
        self._types = await self._type_ids()
        cursor = await self._writes.execute(
            "SELECT entity, columns, published, identity, partitions, partition_names FROM alih.offered"
            " WHERE direction = %s",
            (self._direction.value,),
        )
        for entity, columns, published, identity, partitions, names in await cursor.fetchall():
            self._stored[entity] = _Stored(columns, published, identity, dict(zip(partitions, names, strict=True)))
        found = await self._look()
        self._columns = {at: table.columns for at, table in found.items()}
        self._judge(found)
        await self._accept(found)

    async def described(self, relation: Relation, xid: int | None) -> Projection | None:
        """The projection of a table that the log describes, before its first change and anew after each change of it;
        None for one that is not the stream's any more. `xid` is the transaction at hand. Raises NeedsOperator if the
        table is not what the stream can carry on with.

        The log has only the columns that cross, so a new one is seen in the catalog alone. It has the names of its
        time, so after a renaming was undone a table is known by its number, and a column by its place.
        """
        found = await self._look(xid)
        named = (relation.schema, relation.name)
        at = next((at for at, table in found.items() if table.number == relation.id), named)
        if at not in self._by_table:
            await self._refuse_foreign(relation, found)
            return None
        if list(relation.types) != [self._types[c.type] for c in self._by_table[at].read_columns]:
            raise self._changed(at)
        if relation.id in self._described:
            self._judge_one(at, found)
        self._described.add(relation.id)
        try:
            self._judge(found)
        except NeedsOperator:
            self._doubt.set()  # it may have happened later than this place in the log: what is before it is applied
        else:
            await self._accept(found)
        return self._by_table[at]

    async def _refuse_foreign(self, relation: Relation, found: Mapping[tuple[str, str], _Offered]) -> None:
        """Partitions are described beside their table, without being published themselves."""
        cursor = await self._reads.execute(
            "SELECT FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid"
            " WHERE p.pubname = ANY(%s) AND r.prrelid = %s::oid",
            (list(self._publications), relation.id),
        )
        if await cursor.fetchone() is not None:
            self._judge(found)  # one of ours that was renamed is called by its own name
            raise NeedsOperator(
                f"table {relation.schema}.{relation.name} of the {self._direction.reads} is in the stream and not in"
                " the contract",
                remedy="take it out of the publication, then run again",
            )

    @asynccontextmanager
    async def watched(self, stored: Callable[[], Lsn]) -> AsyncIterator[None]:
        """Look every few seconds while the body runs, and end it with NeedsOperator for what was found, once
        everything before that is `stored`."""
        try:
            async with asyncio.TaskGroup() as tasks:
                looking = tasks.create_task(self._keep_looking(stored))
                yield
                looking.cancel()
        except ExceptionGroup as failed:  # the group's own; whoever waits wants what happened
            raise failed.exceptions[0] from None

    async def _keep_looking(self, stored: Callable[[], Lsn]) -> None:
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._doubt.wait(), _EVERY_S)
            try:
                self._judge(await self._look())
            except NeedsOperator:
                await self._let_pass(stored)
                raise
            self._doubt.clear()

    async def _let_pass(self, stored: Callable[[], Lsn]) -> None:
        """Wait until what is in the log by now is applied, or the stream stops at its place in the log."""
        found = await positions.cut(self._reads)
        for _ in range(_ASKED):
            if stored() >= found:
                return
            await asyncio.sleep(_ASK_AGAIN_S)

    async def _look(self, xid: int | None = None) -> Mapping[tuple[str, str], _Offered]:
        """The tables, once the transaction at hand is visible: its commit can be streamed before."""
        parameters = {
            "schemas": [schema for schema, _ in self._by_table],
            "names": [name for _, name in self._by_table],
            "publications": list(self._publications),
        }
        while True:
            async with self._reads.cursor(row_factory=class_row(_Offered)) as cursor:
                await cursor.execute(query("offered"), parameters)
                found = await cursor.fetchall()
            if xid is None or all(Snapshot.parse(table.seen).sees(xid) for table in found):
                return {(table.schema, table.name): table for table in found}
            await asyncio.sleep(_ASK_AGAIN_S)

    async def _type_ids(self) -> Mapping[str, int]:
        """The ids that the read columns' types have on the reading side; none for a type that is gone."""
        names = sorted({c.type for p in self._by_table.values() for c in p.read_columns})
        cursor = await self._reads.execute("SELECT t, to_regtype(t)::oid::bigint FROM unnest(%s::text[]) t", (names,))
        return dict(await cursor.fetchall())

    async def _accept(self, found: Mapping[tuple[str, str], _Offered]) -> None:
        """Store tables seen for the first time, and partitions that were made since."""
        for at, table in found.items():
            entity = self._by_table[at].entity
            now = _Stored(self._crossing(table), table.published, table.identity, table.parts)
            if self._stored.get(entity) == now:
                continue
            self._stored[entity] = now
            await self._writes.execute(
                "INSERT INTO alih.offered"
                " (direction, entity, columns, published, identity, partitions, partition_names)"
                " VALUES (%s, %s, %s, %s, %s, %s, %s) ON CONFLICT (direction, entity) DO UPDATE"
                " SET partitions = excluded.partitions, partition_names = excluded.partition_names",
                (
                    self._direction.value,
                    entity,
                    now.columns,
                    now.published,
                    now.identity,
                    table.partitions,
                    table.partition_names,
                ),
            )

    def _crossing(self, table: _Offered) -> list[str]:
        names = {c.name for c in self._by_table[table.schema, table.name].read_columns}
        return [column for column in table.columns if column.split(" ", 1)[1].rsplit(" ", 1)[0] in names]

    # --- what stops a stream --------------------------------------------------------------------------------

    def _judge(self, found: Mapping[tuple[str, str], _Offered]) -> None:
        for at in self._by_table:
            self._judge_one(at, found)

    def _judge_one(self, at: tuple[str, str], found: Mapping[tuple[str, str], _Offered]) -> None:
        projection, table = self._by_table[at], found.get(at)
        if table is None:
            raise NeedsOperator(
                f"table {projection.reads} of the {self._direction.reads} is gone, or has another name",
                remedy=f"give it its name back, then run again; a table that was dropped: {_ANEW}",
            )
        if table.columns != self._columns.get(at):
            raise self._changed(at)
        stored = self._stored.get(projection.entity)
        if stored is not None:
            for stop in self._stops(projection, table, stored):
                raise stop

    def _stops(self, projection: Projection, table: _Offered, stored: _Stored) -> Iterator[NeedsOperator]:
        what = f"{projection.reads} of the {self._direction.reads}"
        if self._crossing(table) != stored.columns:
            yield self._changed((table.schema, table.name))
        if table.published != stored.published:
            yield NeedsOperator(
                f"table {what} was taken out of the publication, or is published otherwise: the log lacks changes of"
                " it",
                remedy=_ANEW,
            )
        if table.identity != stored.identity:
            yield NeedsOperator(
                f"the log of {what} no longer names deleted rows as it did: its REPLICA IDENTITY or key has changed",
                remedy="set it back, then run again",
            )
        now = table.parts
        for number, name in stored.partitions.items():
            if number not in now:
                yield NeedsOperator(
                    f"partition {name} of {what} was detached or dropped: the log does not say that its rows are gone",
                    remedy=f"attach it again, nothing changed in between; or {_ANEW}",
                )
        for number in table.attached:
            if number not in stored.partitions:
                yield NeedsOperator(
                    f"{now[number]} was attached to {what}: the log does not hold the rows that it brought along",
                    remedy="detach it; CREATE TABLE … PARTITION OF, and insert the rows",
                )

    def _changed(self, at: tuple[str, str]) -> NeedsOperator:
        return NeedsOperator(
            f"table {'.'.join(at)} of the {self._direction.reads} no longer has the columns that the contract was"
            " compiled for",
            remedy="undo the change of the table, or adapt the contract, alih clean, and start the copy anew",
        )
