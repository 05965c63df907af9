"""The query that reads a chunk's rows, already in the shape of the writing side."""

from collections.abc import Iterator, Sequence
from typing import Any

from psycopg import AsyncConnection, sql
from psycopg.adapt import Dumper
from psycopg.pq import Format

from alih.model.change import Row
from alih.model.projection import Projection
from alih.model.stitching import Chunk
from alih.postgres.session import only_row
from alih.postgres.statements import trusted

Connection = AsyncConnection[tuple[Any, ...]]

_UNSIZED = {"character": "bpchar", "bit": "varbit"}  # without a length these two would mean length 1


class _Cell(bytes):
    """A value in its binary form."""


class _CellDumper(Dumper):
    """As it is; the statement's own cast says of which type it is."""

    format = Format.BINARY

    def dump(self, obj: bytes) -> bytes:
        return bytes(obj)


async def selection(reads: Connection, projection: Projection, chunk: Chunk, ordered_by: Sequence[str]) -> sql.Composed:
    """`COPY … TO STDOUT` of the chunk's rows, in binary form."""
    if chunk.row_key is not None:
        rows = list(_one_row(projection, await _texts(reads, projection, chunk.row_key)))
    else:
        rows = list(_range(projection, chunk, ordered_by))
    if projection.reads_ours:
        rows.append(sql.SQL("({})").format(trusted(projection.reads_ours)))
    return sql.SQL("COPY (SELECT {} FROM {} r WHERE {}) TO STDOUT (FORMAT binary)").format(
        sql.SQL(", ").join(trusted(a.sent) for a in projection.assignments),
        sql.Identifier(projection.reads.schema, projection.reads.name),
        sql.SQL(" AND ").join(rows) if rows else sql.SQL("true"),
    )


def _range(projection: Projection, chunk: Chunk, ordered_by: Sequence[str]) -> Iterator[sql.Composed]:
    types = {column.name: column.type for column in projection.read_columns}
    key = sql.SQL(", ").join(sql.SQL("r.{}").format(sql.Identifier(name)) for name in ordered_by)
    for operator, bound in ((">=", chunk.lower), ("<", chunk.upper)):
        if bound is not None:
            values = [
                sql.SQL("{}::{}").format(sql.Literal(text), trusted(types[name]))
                for name, text in zip(ordered_by, bound, strict=True)
            ]
            yield sql.SQL("({}) {} ({})").format(key, sql.SQL(operator), sql.SQL(", ").join(values))


def _one_row(projection: Projection, texts: Sequence[str]) -> Iterator[sql.Composed]:
    """Equal as text too: a number of another scale, say, is another row as far as the log tells them apart."""
    for column, text in zip(projection.read_key, texts, strict=True):
        name, value = sql.Identifier(column.name), sql.Literal(text)
        yield sql.SQL("r.{} = {} AND r.{}::text = {}").format(name, value, name, value)


async def _texts(reads: Connection, projection: Projection, key: Row) -> Sequence[str]:
    """The key's values as this very session writes and reads them."""
    reads.adapters.register_dumper(_Cell, _CellDumper)
    casts = [sql.SQL("%b::{}::text").format(trusted(_UNSIZED.get(c.type, c.type))) for c in projection.read_key]
    asked = sql.SQL("SELECT {}").format(sql.SQL(", ").join(casts))
    return await only_row(await reads.execute(asked, [_Cell((cell or b"")[4:]) for cell in key]))
