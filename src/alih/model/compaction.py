"""Many changes of a row folded into the one that matters; pure.

A *segment* is a stretch of the log in which the changes of each key have been folded. A change of a key stands
alone in its segment, for it names two rows at once. Folding counts exactly: a row inserted and deleted within the
segment leaves only a note, a row deleted and inserted again is *replaced* (its unmapped columns start anew), so the
number of rows that each statement has to touch is known before it runs.

Most rows pass through unread, so a row may be folded as the log sent it (bytes) and is split into its cells only where
that matters: when a large value that did not arrive has to be taken from the row before.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar

from alih.errors import Corrupt
from alih.model.change import Change, Delete, Insert, Row, Update


class Kind(StrEnum):
    """What has to be done to one row of the writing side."""

    INSERT = "I"
    UPDATE = "U"
    PARTIAL = "P"  # an update without a large value that did not change
    REPLACE = "R"  # deleted, then inserted under the same key
    DELETE = "D"
    MOVE = "K"  # the key changed; `old` has the former one
    NOTHING = "N"  # inserted and deleted again: only noted, for whoever has seen the row in between


@dataclass(frozen=True, slots=True)
class RowChange:
    """The folded change of one row; `xid` is the last transaction that touched it (32 bits)."""

    kind: Kind
    row: Row
    xid: int
    old: Row | None = None

    @property
    def missing(self) -> frozenset[int]:
        """The places of the columns that did not arrive."""
        return frozenset(place for place, cell in enumerate(self.row) if cell is None)


Key = bytes
"""The cells of a key, one after the other; each has its length in front, so no two keys are the same bytes."""

Folded = tuple[Kind, Row | bytes, int, Row | None]
"""A `RowChange`, its row perhaps as it was sent; then an update may turn out to be partial. A plain tuple, for one is
made for every change of the log."""


class Segment:
    """Folded changes of several tables, by entity and key. `split` gives the cells of a row that was folded as sent."""

    __slots__ = ("_rows", "_split")

    def __init__(self, split: Callable[[bytes], Row] | None = None) -> None:
        self._rows: dict[str, dict[Key, Folded]] = {}
        self._split = split

    def __len__(self) -> int:
        return sum(map(len, self._rows.values()))

    @property
    def entities(self) -> Iterable[str]:
        return self._rows.keys()

    def of(self, entity: str) -> Iterable[RowChange]:
        return [self.read(folded) for folded in self.folded(entity).values()]

    def folded(self, entity: str) -> Mapping[Key, Folded]:
        return self._rows.get(entity, {})

    def table(self, entity: str) -> dict[Key, Folded]:
        """The folded changes of one entity, for whoever folds rows as they were sent by the same rules as `fold`."""
        return self._rows.setdefault(entity, {})

    def read(self, folded: Folded) -> RowChange:
        """What was folded, with the row in cells."""
        kind, row, xid, old = folded
        if isinstance(row, bytes):
            row = self._cells(row)
            kind = Kind.PARTIAL if kind is Kind.UPDATE and None in row else kind
        return RowChange(kind, row, xid, old)

    def _cells(self, row: bytes) -> Row:
        if self._split is None:
            raise Corrupt("a row was folded as sent into a segment that cannot split it", remedy="report this")
        return self._split(row)

    def fold(self, entity: str, key_places: tuple[int, ...], change: Change, xid: int) -> None:
        """Add one change that does not move its key. Raises Corrupt for an order of changes that no log has."""
        rows = self.table(entity)
        change = with_key(change, key_places)
        key = key_of(change.old if isinstance(change, Delete) else change.new, key_places)
        prior = rows.get(key)
        folded = _fold(None if prior is None else self.read(prior), change, xid)
        rows[key] = (folded.kind, folded.row, xid, None)


def key_of(row: Row, key_places: tuple[int, ...]) -> Key:
    return b"".join([row[place] or b"" for place in key_places])


def moves_key(change: Change, key_places: tuple[int, ...]) -> bool:
    """Whether an update changes its row's key."""
    if not isinstance(change, Update) or change.old is None:
        return False
    old, new = change.old, change.new
    return any(new[place] is not None and old[place] != new[place] for place in key_places)


def moved(entity: str, key_places: tuple[int, ...], change: Update, xid: int) -> Segment:
    """A change of key as a segment of its own; a large value that did not change is taken from the old row where the
    log has it."""
    row = moved_row(with_key(change, key_places))
    segment = Segment()
    segment.table(entity)[key_of(row, key_places)] = (Kind.MOVE, row, xid, change.old)
    return segment


def moved_row(change: Update) -> Row:
    """The row after a change of key, as far as it arrived."""
    return _filled(change.new, change.old if change.full else None)


_AnyChange = TypeVar("_AnyChange", bound=Change)


def with_key(change: _AnyChange, key_places: tuple[int, ...]) -> _AnyChange:
    """A key so large that the log leaves it out when it does not change stands in the old row."""
    if not isinstance(change, Update) or change.old is None or all(change.new[p] is not None for p in key_places):
        return change
    old = change.old
    new = tuple(old[p] if cell is None and p in key_places else cell for p, cell in enumerate(change.new))
    return replace(change, new=new)


def _fold(prior: RowChange | None, change: Change, xid: int) -> RowChange:
    match change, prior.kind if prior else None:
        case Insert(new=row), None | Kind.NOTHING:
            return RowChange(Kind.INSERT, row, xid)
        case Insert(new=row), Kind.DELETE:
            return RowChange(Kind.REPLACE, row, xid)
        case Update(), None | Kind.UPDATE | Kind.PARTIAL:
            row = _completed(change, prior)
            return RowChange(Kind.PARTIAL if None in row else Kind.UPDATE, row, xid)
        case Update(), (Kind.INSERT | Kind.REPLACE) as kind:
            return RowChange(kind, _completed(change, prior), xid)
        case Delete(), Kind.INSERT if prior is not None:
            return RowChange(Kind.NOTHING, prior.row, xid)
        case Delete(old=row), None | Kind.UPDATE | Kind.PARTIAL | Kind.REPLACE:
            return RowChange(Kind.DELETE, row, xid)
        case _:
            raise impossible(type(change).__name__, None if prior is None else prior.kind)


def impossible(change: str, prior: Kind | None) -> Corrupt:
    """What is raised for an order of changes that no log has."""
    return Corrupt(
        f"the log changes one row in an impossible order: {change} after {prior}",
        remedy="run alih verify; if it differs, keep the slot and report this with the server's version",
    )


def _completed(change: Update, prior: RowChange | None) -> Row:
    row = _filled(change.new, change.old if change.full else None)
    return _filled(row, prior.row if prior else None)


def _filled(row: Row, earlier: Row | None) -> Row:
    """`row` with the values that did not arrive taken from an earlier image of the same row."""
    if earlier is None or None not in row:
        return row
    return tuple(was if cell is None else cell for cell, was in zip(row, earlier, strict=True))
