"""Where the two sides' sequences draw, so that no number is drawn on both while rows cross in both directions; pure.

The source goes on drawing where it is: its sequences are the shop's. The target draws in a range of its own, far enough
behind, or wholly before. All numbers here are the source's; a target that has ids shifted is counted back first.
"""

from dataclasses import dataclass

_SMALLINT, _INTEGER = 2**15 - 1, 2**31 - 1


@dataclass(frozen=True, slots=True)
class Drawn:
    """One side's numbers of a column: the last drawn (or, without a sequence, the greatest), the least and greatest
    that stand in the table, and the greatest that column and sequence can hold."""

    last: int
    least: int | None
    greatest: int | None
    limit: int

    @property
    def top(self) -> int:
        return max(self.last, self.greatest if self.greatest is not None else self.last)


@dataclass(frozen=True, slots=True)
class Ranges:
    """From `boundary` on the numbers are the target's if it draws `above`, else the source's. `start` is where the
    target's sequence has to be set for that; None if it draws in its range already."""

    boundary: int
    above: bool
    start: int | None = None


def gap(limit: int) -> int:
    """How many numbers the source may still draw until its last tenant has left, and the target after that."""
    if limit <= _SMALLINT:
        return 1_000
    return 10_000_000 if limit <= _INTEGER else 100_000_000


def ranges(source: Drawn, target: Drawn, beyond: int | None) -> Ranges | None:
    """Ranges that do not meet, `gap` apart and each with a gap's room; None if the types are too narrow for that.

    `beyond` is the least key in the target's table above the source's greatest plus the gap: such a row is the
    target's own, so its range begins there at the latest.
    """
    room = gap(min(source.limit, target.limit))
    if target.last >= max(source.top + room, target.top):
        boundary = min(target.last + 1, beyond if beyond is not None else target.last + 1)
        return Ranges(boundary, above=True) if target.last + room <= min(source.limit, target.limit) else None
    first = source.last + 1 if source.least is None else source.least
    if target.last + room <= first:
        return Ranges(first, above=False) if source.top + room <= min(source.limit, target.limit) else None
    start = max(source.top, target.top) + room
    return Ranges(start, above=True, start=start) if start + room <= min(source.limit, target.limit) else None
