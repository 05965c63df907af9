"""Into which chunks a table is cut: decided once, when the stream is opened, and stored.

Any bounds are right, for together the ranges have every key; a sample of the table only makes them alike in size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, takewhile
from typing import Any

from psycopg import AsyncConnection, sql

from alih.model.projection import Projection
from alih.postgres.session import only_row
from alih.postgres.sql import query

Connection = AsyncConnection[tuple[Any, ...]]
Range = tuple[Sequence[str] | None, Sequence[str] | None]

_CHUNK_BYTES = 32 << 20  # a second or so of copying: what a killed worker loses, and how long a snapshot is held
_PAGE_BYTES = 8192
_PAGES_A_CHUNK = 20  # sampled; chunks then differ in size by a fifth or so


@dataclass(frozen=True, slots=True)
class Plan:
    """The ranges of one entity, in order, over its key columns `ordered_by`; `chunk_bytes` is what one holds."""

    entity: str
    ordered_by: Sequence[str]
    ranges: Sequence[Range]
    chunk_bytes: int


async def plan(reads: Connection, projection: Projection) -> Plan:
    """Cut the table that `projection` reads. One range where its key cannot be ordered outside the database."""
    place = {"schema": projection.reads.schema, "name": projection.reads.name}
    key = [column.name for column in projection.read_key]
    cursor = await reads.execute(query("chunk_key"), {**place, "key": key})
    size, names, orderable = await only_row(cursor)
    ordered_by = [name for name, _ in takewhile(lambda pair: pair[1], zip(names or (), orderable or (), strict=True))]
    count = size // _CHUNK_BYTES if ordered_by else 1
    bounds = await _bounds(reads, projection, ordered_by, count, size) if count > 1 else []
    ends = [None, *bounds, None]
    return Plan(projection.entity, ordered_by if bounds else (), list(pairwise(ends)), size // (len(bounds) + 1))


async def _bounds(
    reads: Connection, projection: Projection, ordered_by: Sequence[str], count: int, size: int
) -> list[Sequence[str]]:
    """The keys between `count` ranges that hold about equally many of the sampled rows; fewer if rows are few."""
    percent = min(100.0, 100 * count * _PAGES_A_CHUNK / max(1, size / _PAGE_BYTES))
    columns = [sql.Identifier(name) for name in ordered_by]
    sample = sql.SQL("SELECT ARRAY[{}] FROM {} TABLESAMPLE SYSTEM ({}) ORDER BY {}").format(
        sql.SQL(", ").join(sql.SQL("{}::text").format(c) for c in columns),
        sql.Identifier(projection.reads.schema, projection.reads.name),
        sql.Literal(percent),
        sql.SQL(", ").join(columns),
    )
    keys = [tuple(key) for (key,) in await (await reads.execute(sample)).fetchall()]
    places = [len(keys) * number // count for number in range(1, count)] if keys else []
    return list(dict.fromkeys(keys[place] for place in places))
