"""The writing side's database: rows, position, chunks and spool; counted as the writer does."""

from dataclasses import dataclass, field, replace
from itertools import pairwise

from alih.model.change import NULL, Change, Lsn, Row
from alih.model.chunk import ChunkState, Done, NotStarted, Spooling
from alih.model.compaction import Kind, RowChange, Segment
from alih.model.projection import ReadColumn
from alih.model.stitching import Chunk, EntityChunks, one_row
from tests.model.source import Key, key_of

ENTITY = "e"
COLUMNS = tuple(
    ReadColumn(name=name, type="integer", key=name == "id", wire="integer") for name in ("id", "value", "large")
)

Rows = dict[Key, Row]


@dataclass(frozen=True, slots=True)
class Spooled:
    chunk: int
    xid: int
    change: Change


@dataclass(slots=True)
class Target:
    """What is committed. `version` grows whenever a chunk changes, `commits` with every transaction."""

    position: Lsn
    rows: Rows = field(default_factory=dict)
    dropped: frozenset[int] = frozenset()
    chunks: dict[int, Chunk] = field(default_factory=dict)
    attempts: dict[int, int] = field(default_factory=dict)
    version: int = 0
    commits: int = 0
    spool: list[Spooled] = field(default_factory=list)

    def plan(self, bounds: list[Key]) -> None:
        ends = [None, *([str(bound)] for bound in bounds), None]
        for lower, upper in pairwise(ends):
            self._add(Chunk(id=len(self.chunks) + 1, state=NotStarted(), lower=lower, upper=upper))

    def add_row(self, key: Row) -> int:
        """Have this row read anew, whether or not it is a chunk of its own."""
        there = [chunk.id for chunk in self.chunks.values() if chunk.row_key == key]
        number = there[0] if there else len(self.chunks) + 1
        self._add(one_row(number, key))
        return number

    def turn(self, number: int, state: ChunkState, settled: Lsn | None = None) -> None:
        self.chunks[number] = replace(self.chunks[number], state=state, settled=settled)
        self.version += 1

    def claim(self, number: int) -> int:
        self.attempts[number] += 1
        self.commits += 1
        self.turn(number, Spooling(self.attempts[number]))
        return self.attempts[number]

    def read_chunks(self) -> EntityChunks:
        return EntityChunks(COLUMNS, ["id"], list(self.chunks.values()))

    @property
    def unfinished(self) -> list[int]:
        return [number for number, chunk in self.chunks.items() if not isinstance(chunk.state, Done)]

    def _add(self, chunk: Chunk) -> None:
        self.chunks[chunk.id] = chunk
        self.attempts.setdefault(chunk.id, 0)
        self.version += 1


def write(segment: Segment, rows: Rows) -> None:
    """What the statements do, each counted: nothing is overwritten, and nothing is missing. Deletes come first."""
    changes = [change for entity in segment.rows for change in segment.of(entity)]
    for change in changes:
        if change.kind in (Kind.DELETE, Kind.REPLACE):
            assert rows.pop(key_of(change.row), None) is not None, "a row to be deleted is not there"
    for change in changes:
        _upsert(change, rows)


def _upsert(change: RowChange, rows: Rows) -> None:
    key = key_of(change.row)
    match change.kind:
        case Kind.INSERT | Kind.REPLACE:
            assert None not in change.row, "a row is inserted without one of its values"
            assert key not in rows, "a row is inserted twice"
            rows[key] = change.row
        case Kind.UPDATE | Kind.PARTIAL:
            assert key in rows, "a row to be updated is not there"
            rows[key] = _filled(change.row, rows[key])
        case Kind.MOVE:
            assert change.old is not None
            assert key not in rows, "a row is moved onto another"
            old = rows.pop(key_of(change.old), None)
            assert old is not None, "a row to be moved is not there"
            rows[key] = _filled(change.row, old)
        case Kind.DELETE:
            pass
        case Kind.NOTHING:
            assert key not in rows, "a row that came and went is there"


def _filled(row: Row, earlier: Row) -> Row:
    assert NULL not in row
    return tuple(was if cell is None else cell for cell, was in zip(row, earlier, strict=True))
