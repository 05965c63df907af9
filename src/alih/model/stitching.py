"""Which chunk a change of the log belongs to, and what becomes of each half of it; pure.

A chunk is a range of one entity's keys, or one row. A change that moves its row's key from one chunk into another is
a delete in the first and an insert in the second, each with its own fate (`alih.model.chunk.fate`). An insert of a row
that did not arrive whole (a large value that did not change) cannot be written: the row is registered as a chunk of
its own and read anew, through the same stitch.

Keys are compared here as the server compares them: integers as numbers, uuids and text under the "C" collation (of a
UTF-8 database) byte by byte. What cannot be compared so is copied in one chunk.
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from uuid import UUID

from alih.errors import Corrupt
from alih.model.change import Cell, Change, Delete, Insert, Lsn, Row, Update
from alih.model.chunk import Apply, ChunkState, Done, Drop, Elsewhere, NotStarted, Spool, fate
from alih.model.compaction import moved_row, moves_key, with_key
from alih.model.projection import ReadColumn

Ordered = int | bytes
Bound = tuple[Ordered, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A chunk in its state. `lower` is inclusive, `upper` exclusive, None is open; `row_key` names a one-row chunk.
    `settled`: no transaction whose commit stands there or later is visible in the snapshot of a chunk that is done."""

    id: int
    state: ChunkState
    lower: Sequence[str] | None = None
    upper: Sequence[str] | None = None
    row_key: Row | None = None
    settled: Lsn | None = None


@dataclass(frozen=True, slots=True)
class Write:
    """Apply this to the target: the whole change, or the half of it that counts."""

    change: Change


@dataclass(frozen=True, slots=True)
class Keep:
    """Keep the whole change in the spool of this chunk."""

    chunk: int


@dataclass(frozen=True, slots=True)
class Forget:
    """Forget the change, or a half of it; `remember` its transaction until it is seen visible."""

    remember: bool


@dataclass(frozen=True, slots=True)
class Reread:
    """The row with this key has to come, but did not arrive whole: register it as a chunk of its own, not started,
    and remember the transaction."""

    key: Row


Part = Write | Keep | Forget | Reread


class EntityChunks:
    """The chunks of one entity: together they have every key, each key once."""

    def __init__(self, columns: Sequence[ReadColumn], ordered_by: Sequence[str], chunks: Sequence[Chunk]) -> None:
        """`ordered_by` are the key columns by which the ranges are ordered, in that order; empty for one range.
        Raises Corrupt if the ranges leave a gap or overlap."""
        places = {column.name: place for place, column in enumerate(columns)}
        types = {column.name: column.type for column in columns}
        self.key_places = tuple(place for place, column in enumerate(columns) if column.key)
        self._columns = columns
        self.ordered_by = tuple(ordered_by)
        self._order = tuple((places[name], _OF_CELL[types[name]]) for name in ordered_by)
        self._of_text = tuple(_OF_TEXT[types[name]] for name in ordered_by)
        self._rows = {chunk.row_key: chunk for chunk in chunks if chunk.row_key is not None}
        self._ranges = sorted((c for c in chunks if c.row_key is None), key=self._lower)
        self._lowers = [self._bound(c.lower) for c in self._ranges[1:] if c.lower is not None]
        _judge_cover(self._ranges)
        self._settled = _settled(chunks)

    def _lower(self, chunk: Chunk) -> tuple[bool, Bound]:
        return (False, ()) if chunk.lower is None else (True, self._bound(chunk.lower))

    def _bound(self, bound: Sequence[str]) -> Bound:
        return tuple(of_text(text) for of_text, text in zip(self._of_text, bound, strict=True))

    def of(self, row: Row) -> Chunk:
        """The chunk that a row belongs to, of which at least the key has arrived."""
        if self._rows and (chunk := self._rows.get(self.key(row))) is not None:
            return chunk
        if not self._lowers:
            return self._ranges[0]
        return self._ranges[bisect_right(self._lowers, tuple(of_cell(row[place]) for place, of_cell in self._order))]

    def chunk(self, number: int) -> Chunk:
        """The chunk with this id."""
        return next(c for c in (*self._ranges, *self._rows.values()) if c.id == number)

    def __len__(self) -> int:
        return len(self._ranges) + len(self._rows)

    def key(self, row: Row) -> Row:
        return tuple(row[place] for place in self.key_places)

    def add_row(self, chunk: Chunk) -> None:
        """From now on the row with this chunk's `row_key` is in a chunk of its own."""
        self._rows[chunk.row_key or ()] = chunk
        self._settled = None

    def as_seen_by(self, own: int, state: ChunkState) -> "EntityChunks":
        """The same chunks as the copy of chunk `own` needs them for its spool: only its own, in `state`, counts."""
        every = (*self._ranges, *self._rows.values())
        seen = [replace(chunk, state=state if chunk.id == own else Elsewhere(), settled=None) for chunk in every]
        return EntityChunks(self._columns, self.ordered_by, seen)

    def settled(self, commit: Lsn) -> bool:
        """Whether all is copied, and no snapshot can have seen a transaction whose commit stands at `commit`: then
        every change of it is applied, and nothing has to be looked up."""
        return self._settled is not None and commit >= self._settled

    @property
    def done(self) -> bool:
        return self._settled is not None


def _settled(chunks: Sequence[Chunk]) -> Lsn | None:
    marks = [chunk.settled for chunk in chunks if isinstance(chunk.state, Done)]
    if len(marks) < len(chunks):
        return None
    return max((mark for mark in marks if mark is not None), default=Lsn(0))


def _judge_cover(ranges: Sequence[Chunk]) -> None:
    ends = [None, *(c.upper for c in ranges)]
    begins = [*(c.lower for c in ranges), None]
    inner = [bound for chunk in ranges for bound in (chunk.lower, chunk.upper)].count(None)
    if not ranges or ends != begins or inner != 2:
        raise Corrupt("the chunks of an entity leave a gap or overlap", remedy="alih clean, then start the copy anew")


def _integer(cell: Cell) -> int:
    return int.from_bytes((cell or b"")[4:], "big", signed=True)


def _raw(cell: Cell) -> bytes:
    return (cell or b"")[4:]


_INTEGERS, _TEXTS = ("smallint", "integer", "bigint"), ("text", "character varying")
_OF_CELL: Mapping[str, Callable[[Cell], Ordered]] = {
    **dict.fromkeys(_INTEGERS, _integer),
    **dict.fromkeys((*_TEXTS, "uuid"), _raw),
}
_OF_TEXT: Mapping[str, Callable[[str], Ordered]] = {
    **dict.fromkeys(_INTEGERS, int),
    **dict.fromkeys(_TEXTS, str.encode),
    "uuid": lambda text: UUID(text).bytes,
}


def route(chunks: EntityChunks, change: Change, xid: int) -> Sequence[Part]:
    """What becomes of a change of transaction `xid`: one part, or one for each half of a move between two chunks."""
    if isinstance(change, Update):
        change = with_key(change, chunks.key_places)
        if moves_key(change, chunks.key_places) and change.old is not None:
            return _route_move(chunks, change, change.old, xid)
    chunk = chunks.of(change.old if isinstance(change, Delete) else change.new)
    return (_part(chunk, change, xid),)


def _route_move(chunks: EntityChunks, change: Update, old: Row, xid: int) -> Sequence[Part]:
    left, entered = chunks.of(old), chunks.of(change.new)
    if left.id == entered.id or fate(left.state, xid) == fate(entered.state, xid) == Apply():
        return (_part(left, change, xid),)
    row = moved_row(change)
    inserted = _part(entered, Insert(change.relation, row), xid)
    if None in row and isinstance(inserted, Write):
        inserted = Reread(chunks.key(row))
    return (_part(left, Delete(change.relation, old), xid), inserted)


def _part(chunk: Chunk, change: Change, xid: int) -> Part:
    match fate(chunk.state, xid):
        case Apply():
            return Write(change)
        case Spool():
            return Keep(chunk.id)
        case Drop(remember):
            return Forget(remember)


def one_row(number: int, key: Row) -> Chunk:
    """A chunk of one row that nobody has read yet."""
    return Chunk(id=number, state=NotStarted(), row_key=key)
