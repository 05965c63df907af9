"""Rows of one entity, fetched from the reading side and written over what stands on the writing side.

They wait in a temporary table with the columns that alih writes. Columns that alih does not write keep what they hold.
"""

from collections.abc import Callable, Sequence
from typing import Any

from psycopg import AsyncConnection, sql

from alih.errors import Corrupt
from alih.model.finding import Cause, Finding
from alih.model.projection import Projection
from alih.postgres.comparison import writing_side
from alih.postgres.scanning import Key
from alih.postgres.statements import columns, table

Connection = AsyncConnection[tuple[Any, ...]]

_STAGE = sql.Identifier("alih_repair")


class Replacement:
    """Writes through a connection in autocommit."""

    def __init__(self, projection: Projection, connection: Connection) -> None:
        self._projection = projection
        self._connection = connection
        self._side = writing_side(projection)
        self._columns = [a.column for a in projection.assignments]

    async def stage(self, rows: bytes) -> dict[Key, int]:
        """Keep `rows` (binary COPY) for `write`, in the place of earlier ones; returns their hashes."""
        await self._connection.execute(sql.SQL("DROP TABLE IF EXISTS pg_temp.{}").format(_STAGE))
        await self._connection.execute(
            sql.SQL("CREATE TEMP TABLE {} AS SELECT {} FROM {} WITH NO DATA").format(
                _STAGE, columns(self._columns), table(self._projection)
            )
        )
        async with self._connection.cursor().copy(
            sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(_STAGE, columns(self._columns))
        ) as copy:
            await copy.write(rows)
        staged = writing_side(self._projection, _STAGE)
        cursor = await self._connection.execute(staged.hashes())
        return {tuple(key): number for key, number in await cursor.fetchall()}

    async def write(self, findings: Sequence[Finding]) -> None:
        """Write the staged rows of these findings, and delete what is surplus, in the caller's transaction."""
        await self._connection.execute("SET LOCAL session_replication_role = replica")
        keys = {cause: [each.key for each in findings if each.cause is cause] for cause in Cause}
        await self._run(self._delete, keys[Cause.SURPLUS])
        if self._others:
            await self._run(self._update, keys[Cause.DIFFERENT])
        await self._run(self._insert, keys[Cause.MISSING])

    async def _run(self, statement: Callable[[sql.Composed, sql.Composed], sql.Composed], keys: Sequence[Key]) -> None:
        if not keys:
            return
        cursor = await self._connection.execute(statement(*self._side.matched(keys)))
        if cursor.rowcount != len(keys):
            raise Corrupt(
                f"{self._projection.entity}: {cursor.rowcount} rows were repaired where {len(keys)} had to be",
                remedy="somebody else changes rows that alih copied: stop that, then run alih repair again",
            )

    def _delete(self, keys: sql.Composed, same: sql.Composed) -> sql.Composed:
        return sql.SQL("DELETE FROM {} w USING {} WHERE {}").format(table(self._projection), keys, same)

    def _update(self, keys: sql.Composed, same: sql.Composed) -> sql.Composed:
        twins = [sql.SQL("s.{0} = w.{0}").format(sql.Identifier(a.column)) for a in self._projection.write_key]
        return sql.SQL("UPDATE {} w SET ({}) = ROW({}) FROM {} s, {} WHERE {} AND {}").format(
            table(self._projection),
            columns(self._others),
            sql.SQL(", ").join(sql.SQL("s.{}").format(sql.Identifier(name)) for name in self._others),
            _STAGE,
            keys,
            same,
            sql.SQL(" AND ").join(twins),
        )

    def _insert(self, keys: sql.Composed, same: sql.Composed) -> sql.Composed:
        given = sql.SQL(", ").join(sql.SQL("w.{}").format(sql.Identifier(name)) for name in self._columns)
        return sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {} w JOIN {} ON {}").format(
            table(self._projection), columns(self._columns), given, _STAGE, keys, same
        )

    @property
    def _others(self) -> list[str]:
        """What an update sets: never a value that is kept because the other side cannot hold all of it."""
        return [a.column for a in self._projection.assignments if not a.key and a.update is None]
