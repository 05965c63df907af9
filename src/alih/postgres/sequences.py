"""Sequences of both sides kept apart, so that a row that comes back finds its number free.

The log carries no sequences. The source's are left as they are; the target's is set once, before the first cutover,
far behind every number of either side, unless it draws in a range of its own already. Inside each hold the ranges are
looked at again. https://www.postgresql.org/docs/current/functions-sequence.html
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

from psycopg import AsyncConnection, sql
from psycopg.rows import DictRow, dict_row

from alih.errors import NeedsOperator
from alih.model.contract import Table
from alih.model.projection import Direction, Projection
from alih.model.ranges import Drawn, Ranges, gap, ranges
from alih.model.side import Side
from alih.postgres.line import Line
from alih.postgres.session import Connection, only_row
from alih.postgres.sql import query
from alih.postgres.statements import trusted

_BIGINT = 2**63 - 1
_INTEGERS = {"smallint": 2**15 - 1, "integer": 2**31 - 1, "bigint": _BIGINT}

_KNOWN: LiteralString = "SELECT target_table, target_column FROM alih.sequence"

Found = Mapping[tuple[Table, str], DictRow]


@dataclass(frozen=True, slots=True)
class Pair:
    """A number that crosses as it is, or shifted: its column on either side; `sql` gives the target's over `r`."""

    entity: str
    source: Table
    source_column: str
    source_type: str
    target: Table
    target_column: str
    sql: str

    def at(self, side: Side) -> tuple[Table, str]:
        """Table and column on that side."""
        return (self.source, self.source_column) if side is Side.SOURCE else (self.target, self.target_column)


def pairs(projections: Iterable[Projection]) -> list[Pair]:
    """The integers of `projections` (both directions) that each side computes from one integer of the other.
    Linked ids are no such: each side draws its own, and the link tells them apart."""
    back = {
        (p.entity, a.column): a.inputs for p in projections if p.direction is Direction.REVERSE for a in p.assignments
    }
    found = []
    for projection in projections:
        types = {c.name: c.type for c in projection.read_columns}
        for a in projection.assignments if projection.direction is Direction.FORWARD else ():
            column = next(iter(a.inputs)) if len(a.inputs) == 1 else ""
            numbers = a.type in _INTEGERS and types.get(column) in _INTEGERS and "alih." not in a.sql
            if numbers and back.get((projection.entity, column)) == frozenset([a.column]):
                places = (projection.reads, column, types[column], projection.writes, a.column)
                found.append(Pair(projection.entity, *places, a.sql))
    return found


async def of(connection: AsyncConnection[Any], paired: Sequence[Pair], side: Side) -> Found:
    """The sequences that fill these columns on one side."""
    places = [pair.at(side) for pair in paired]
    async with connection.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(
            query("sequences"),
            {
                "schemas": [table.schema for table, _ in places],
                "tables": [table.name for table, _ in places],
                "columns": [column for _, column in places],
            },
        )
        return {(Table(row["schema"], row["table"]), row["column"]): row for row in await cursor.fetchall()}


@dataclass(frozen=True, slots=True)
class Layout:
    """What was found of one pair, and the ranges; None where the types are too narrow."""

    pair: Pair
    source_sequence: str | None
    target_sequence: str
    shift: int  # the target's number of a row, less the source's
    room: int
    ranges: Ranges | None


async def layouts(source: Connection, target: Connection, paired: Sequence[Pair]) -> list[Layout]:
    """The ranges of every pair whose target draws from a sequence that only counts up. Changes nothing."""
    here, there = await of(source, paired, Side.SOURCE), await of(target, paired, Side.TARGET)
    found = []
    for pair in paired:
        drawing = there.get(pair.at(Side.TARGET))
        shift = await _shift(target, pair) if drawing is not None and _counts_up(drawing) else None
        if drawing is not None and shift is not None:
            found.append(await _layout(source, target, pair, here.get(pair.at(Side.SOURCE)), drawing, shift))
    return found


async def _layout(
    source: Connection, target: Connection, pair: Pair, mine: DictRow | None, theirs: DictRow, shift: int
) -> Layout:
    drawn_here = await _drawn(source, pair.at(Side.SOURCE), mine, _INTEGERS[pair.source_type], 0)
    drawn_there = await _drawn(target, pair.at(Side.TARGET), theirs, theirs["limit"], shift)
    room = gap(min(drawn_here.limit, drawn_there.limit))
    beyond = await _beyond(target, pair, drawn_here.top + room + shift)
    apart = ranges(drawn_here, drawn_there, None if beyond is None else beyond - shift)
    return Layout(pair, mine["name"] if mine else None, theirs["name"], shift, room, apart)


def _counts_up(sequence: DictRow) -> bool:
    return sequence["step"] > 0 and not sequence["cycles"]


async def _shift(target: Connection, pair: Pair) -> int | None:
    """By how much the target's number of a row differs from the source's; None if not always by the same."""
    shifts = set()
    for number in (1, 1_000):
        given = sql.SQL("SELECT ({})::bigint FROM (SELECT {}::{} AS {}) r").format(
            trusted(pair.sql), sql.Literal(number), trusted(pair.source_type), sql.Identifier(pair.source_column)
        )
        (mapped,) = await only_row(await target.execute(given))
        shifts.add(None if mapped is None else mapped - number)
    return shifts.pop() if len(shifts) == 1 else None


async def _drawn(
    connection: Connection, at: tuple[Table, str], sequence: DictRow | None, limit: int, shift: int
) -> Drawn:
    table, column = at
    (least, greatest) = await only_row(
        await connection.execute(
            sql.SQL("SELECT min({c})::bigint - {s}, max({c})::bigint - {s} FROM {t}").format(
                c=sql.Identifier(column), s=sql.Literal(shift), t=sql.Identifier(table.schema, table.name)
            )
        )
    )
    if sequence is None:
        return Drawn(0 if greatest is None else greatest, least, greatest, limit)
    cursor = await connection.execute("SELECT pg_sequence_last_value(%s::regclass)", (sequence["name"],))
    (last,) = await only_row(cursor)
    last = sequence["before_first"] if last is None else last
    return Drawn(last - shift, least, greatest, min(limit, sequence["limit"]) - shift)


async def _beyond(target: Connection, pair: Pair, number: int) -> int | None:
    table, column = pair.at(Side.TARGET)
    statement = sql.SQL("SELECT min({c})::bigint FROM {t} WHERE {c} > {n}").format(
        c=sql.Identifier(column), t=sql.Identifier(table.schema, table.name), n=sql.Literal(number)
    )
    (least,) = await only_row(await target.execute(statement))
    return None if least is None else int(least)


def too_narrow(layout: Layout) -> str:
    """Why a pair cannot be kept apart."""
    pair = layout.pair
    return (
        f"{pair.target}.{pair.target_column} and {pair.source}.{pair.source_column} have no room left for two ranges"
        f" of numbers, {layout.room} apart: make both columns, and their sequences, bigint"
    )


async def keep_apart(source: Connection, target: Connection, paired: Sequence[Pair]) -> None:
    """Give the target ranges of its own, and note them; safe to repeat: what is noted stays as it is.

    Raises NeedsOperator if a type is too narrow. Which sequence is set is what `setval` does: it is not undone.
    """
    for layout in await layouts(source, target, await unnoted(target, paired)):
        if layout.ranges is None:
            raise NeedsOperator(too_narrow(layout), remedy="alter the types, then run again")
        if layout.ranges.start is not None:
            await target.execute(
                "SELECT setval(%s::regclass, %s)", (layout.target_sequence, layout.ranges.start + layout.shift)
            )
        await _note(target, layout, layout.ranges)


async def unnoted(target: Connection, paired: Sequence[Pair]) -> list[Pair]:
    """The pairs that have no ranges yet. Later the rows say nothing: those that came back bear the target's numbers."""
    ((there,),) = await (await target.execute("SELECT to_regclass('alih.sequence') IS NOT NULL")).fetchall()
    known = await (await target.execute(_KNOWN)).fetchall() if there else []
    return [pair for pair in paired if (_text(pair.target), pair.target_column) not in known]


async def _note(target: Connection, layout: Layout, apart: Ranges) -> None:
    pair = layout.pair
    await target.execute(
        "INSERT INTO alih.sequence (entity, source_table, source_column, source_sequence, target_table, target_column,"
        " target_sequence, source_boundary, target_boundary, above) VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)",
        (
            *(pair.entity, _text(pair.source), pair.source_column, layout.source_sequence),
            *(_text(pair.target), pair.target_column, layout.target_sequence),
            *(apart.boundary, apart.boundary + layout.shift, apart.above),
        ),
    )


def _text(table: Table) -> str:
    return sql.Identifier(table.schema, table.name).as_string()


class SequenceRanges:
    """Asks, inside a hold, whether both sides still draw in their ranges. Two questions, one to each side."""

    def __init__(self, source: Line, target: Line) -> None:
        self._source = source
        self._target = target
        self._noted: Sequence[DictRow] = ()

    async def apart(self) -> None:
        """Raises NeedsOperator, by name, if a side's next number could be one that the other side has or draws."""
        if not self._noted:
            async with self._target.connection() as target, target.cursor(row_factory=dict_row) as cursor:
                await cursor.execute("SELECT * FROM alih.sequence ORDER BY target_table, target_column")
                self._noted = await cursor.fetchall()
        for line, side in ((self._source, Side.SOURCE), (self._target, Side.TARGET)):
            asked = [noted for noted in self._noted if noted[f"{side}_sequence"]]
            if not asked:
                continue
            async with line.connection() as connection:
                answers = await connection.execute(sql.SQL(" UNION ALL ").join(_question(n, side) for n in asked))
                for name, inside in await answers.fetchall():
                    if not inside:
                        raise _left(name, side)


def _question(noted: DictRow, side: Side) -> sql.Composed:
    """Whether the side's last number is in its range, and on the target no number stands before it that is still to be
    drawn. The rows are seen as of the statement's beginning, the sequence as it is: never the other way round."""
    table, column = trusted(noted[f"{side}_table"]), sql.Identifier(noted[f"{side}_column"])
    low = noted["above"] is (side is Side.TARGET)
    boundary = sql.Literal(noted[f"{side}_boundary"])
    inside = sql.SQL("{last} >= {b} - 1" if low else "{last} < {b}").format(last=sql.SQL("last"), b=boundary)
    if side is Side.TARGET:
        before = sql.SQL("" if low else " AND t.{c} < {b}").format(c=column, b=boundary)
        inside += sql.SQL(" AND NOT EXISTS (SELECT FROM {t} t WHERE t.{c} > last{before})").format(
            t=table, c=column, before=before
        )
    return sql.SQL("SELECT {name}, {inside} FROM (SELECT {last} AS last) s").format(
        name=sql.Literal(f"{noted[f'{side}_table']}.{noted[f'{side}_column']}"),
        inside=inside,
        last=_last(noted[f"{side}_sequence"]),
    )


def _last(sequence: str) -> sql.Composed:
    return sql.SQL(
        "coalesce(pg_sequence_last_value({s}::regclass), (SELECT seqstart - seqincrement FROM pg_sequence"
        " WHERE seqrelid = {s}::regclass))"
    ).format(s=sql.Literal(sequence))


def _left(name: str, side: Side) -> NeedsOperator:
    return NeedsOperator(
        f"{name} of the {side} no longer draws its numbers in the range that keeps it apart from the other side's",
        remedy="see alih.sequence at the target for the boundaries; set the sequence back into its range",
    )
