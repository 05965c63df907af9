"""Many changes of a row folded into the one that matters; pure.

A *segment* is a stretch of the log in which the changes of each key have been folded. A change of a key stands
alone in its segment, for it names two rows at once. Folding counts exactly: a row inserted and deleted within the
segment leaves only a note, a row deleted and inserted again is *replaced* (its unmapped columns start anew), so the
number of rows that each statement has to touch is known before it runs.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
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


@dataclass(slots=True)
class Segment:
    """Folded changes of several tables, by entity and key, and the changes that were folded, in log order."""

    rows: dict[str, dict[Row, RowChange]] = field(default_factory=dict)
    history: list["Folded"] = field(default_factory=list)

    def __len__(self) -> int:
        return sum(len(of_entity) for of_entity in self.rows.values())

    def of(self, entity: str) -> Iterable[RowChange]:
        return self.rows.get(entity, {}).values()

    def fold(self, entity: str, key_places: tuple[int, ...], change: Change, xid: int) -> None:
        """Add one change that does not move its key. Raises Corrupt for an order of changes that no log has."""
        rows = self.rows.setdefault(entity, {})
        change = with_key(change, key_places)
        image = change.old if isinstance(change, Delete) else change.new
        key = tuple(image[place] for place in key_places)
        folded = _fold(rows.get(key), change, xid)
        self.history.append(Folded(entity, key_places, change, xid))
        rows[key] = folded

    def halves(self) -> "tuple[Segment, Segment]":
        """The same changes in log order, as two segments; for rows that must not be written all at once."""
        middle = len(self.history) // 2
        first, second = Segment(), Segment()
        for number, past in enumerate(self.history):
            part = first if number < middle else second
            part.fold(past.entity, past.key_places, past.change, past.xid)
        return first, second


@dataclass(frozen=True, slots=True)
class Folded:
    """A change as it came."""

    entity: str
    key_places: tuple[int, ...]
    change: Change
    xid: int


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
    return Segment({entity: {row: RowChange(Kind.MOVE, row, xid, change.old)}})


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
            raise Corrupt(
                f"the log changes one row in an impossible order: {type(change).__name__} after {prior and prior.kind}",
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
