"""The tables that the log describes, held against the contract."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from psycopg import AsyncConnection

from alih.errors import NeedsOperator
from alih.model.change import Relation
from alih.model.chunk import Snapshot
from alih.model.projection import Direction, Projection
from alih.postgres.folding import Table
from alih.postgres.sql import query

Connection = AsyncConnection[tuple[Any, ...]]
Columns = Mapping[tuple[str, str], Sequence[str]]

_ASK_AGAIN_S = 0.05


class Relations:
    """What the contract expects of the tables of one stream; `reads` is a connection to the reading side."""

    def __init__(self, direction: Direction, projections: Sequence[Projection], reads: Connection) -> None:
        self._direction = direction
        self._reads = reads
        self._by_table = {(p.reads.schema, p.reads.name): p for p in projections}
        self._types: Mapping[str, int] = {}
        self._columns: Columns = {}

    async def prepare(self) -> None:
        """Look how the tables are now; from here on they stay so."""
        self._types = await self._type_ids()
        self._columns = await self._columns_now(None)

    async def known(self, relation: Relation, xid: int | None) -> Table:
        """The server describes a table before its first change, and anew after each ALTER TABLE. The log has only the
        columns that cross, so a new one is seen in the catalog alone; and there once `xid`, the transaction at hand,
        is visible."""
        at = (relation.schema, relation.name)
        projection = self._by_table.get(at)
        expected = [(c.name, self._types[c.type]) for c in projection.read_columns] if projection else []
        offered = list(zip(relation.columns, relation.types, strict=True))
        if projection is None or offered != expected or (await self._columns_now(xid)).get(at) != self._columns.get(at):
            raise NeedsOperator(
                f"table {relation.schema}.{relation.name} of the {self._direction.reads} no longer has the columns that"
                " the contract was compiled for",
                remedy="undo the change of the table, or adapt the contract, alih clean, and start the copy anew",
            )
        return Table(projection.entity, projection.read_columns)

    async def _columns_now(self, xid: int | None) -> Columns:
        """The tables' columns, once the transaction at hand is visible: its commit can be streamed before."""
        tables = {"schemas": [schema for schema, _ in self._by_table], "names": [name for _, name in self._by_table]}
        while True:
            found = await (await self._reads.execute(query("columns"), tables)).fetchall()
            if xid is None or all(Snapshot.parse(s).sees(xid) for *_, s in found):
                return {(schema, name): names for schema, name, names, _ in found}
            await asyncio.sleep(_ASK_AGAIN_S)

    async def _type_ids(self) -> Mapping[str, int]:
        """The ids that the read columns' types have on the reading side; NULL for a type that is gone."""
        names = sorted({c.type for p in self._by_table.values() for c in p.read_columns})
        cursor = await self._reads.execute("SELECT t, to_regtype(t)::oid::bigint FROM unnest(%s::text[]) t", (names,))
        return dict(await cursor.fetchall())
