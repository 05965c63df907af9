"""Figures that hold on a noisy machine: ratios of runs that were made one right after the other.

Each round runs everything once, in an order that turns from round to round; a ratio is formed within its round, and
the median of the rounds is given with a 95 % interval that assumes nothing of their distribution (order statistics:
Conover, "Practical Nonparametric Statistics", 3rd ed., section 3.2).
"""

import math
import statistics
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

Run = Callable[[], Awaitable[float]]
"""Does the work once and returns the seconds that count: setting up and clearing away stand outside of them."""

LEAST = 15  # rounds from which a figure may be quoted


@dataclass(frozen=True, slots=True)
class Ratio:
    """A median with the bounds of its 95 % interval."""

    median: float
    low: float
    high: float

    def document(self) -> dict[str, object]:
        return {"ratio": round(self.median, 3), "interval": [round(self.low, 3), round(self.high, 3)]}


async def rounds(runs: Mapping[str, Run], count: int) -> Mapping[str, Sequence[float]]:
    """Seconds of each run in each of `count` rounds."""
    names = list(runs)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(count):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            seconds[name].append(await runs[name]())
    return seconds


def speed(ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
    """How many times as fast as theirs ours is: above 1 is faster."""
    return interval([their / our for our, their in zip(ours, theirs, strict=True)])


def interval(values: Sequence[float]) -> Ratio:
    """The median and the 95 % interval of it; with fewer than six values the interval is their whole range."""
    ordered = sorted(values)
    below = math.floor(len(ordered) / 2 - 0.98 * math.sqrt(len(ordered)))
    low, high = (0, -1) if below < 1 else (below - 1, -below)
    return Ratio(statistics.median(ordered), ordered[low], ordered[high])
