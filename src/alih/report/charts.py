"""Where things lie in the page's drawing; templates/chart.html draws it. Lengths are in the drawing's own units."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from alih.report.progress import CohortRow, Progress

_LEFT, _RIGHT, _TOP = 40.0, 14.0, 24.0
_PLOT = 170.0
_ROW = 30.0
_AXIS = 26.0
_LEAST_BAR = 4.0
_DEADLINE_WITHIN = 4  # a deadline further away than so many times the course would squeeze it into a corner


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A cohort's flips, from the first to the last."""

    row: CohortRow
    x: float
    y: float
    width: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """The score over time above the cohorts' flips. `deadline_x` None: it lies outside, and the text says it."""

    width: float
    height: float
    left: float
    right: float
    top: float
    bottom: float
    levels: Sequence[tuple[int, float]]
    course: str
    area: str
    points: Sequence[tuple[float, float]]
    bars: Sequence[Bar]
    ticks: Sequence[tuple[float, str, str]]
    deadline_x: float | None


def chart(progress: Progress, width: float, ticks: int) -> Chart:
    """`width` units wide, with so many moments named at its foot."""
    begins, ends, deadline = _seconds(progress.begins), _seconds(progress.ends), _near(progress)
    span = max((deadline or ends) - begins, 1.0)
    right = width - _RIGHT

    def x(second: float) -> float:
        return round(_LEFT + (second - begins) / span * (right - _LEFT), 1)

    points = [(x(_seconds(scored.at)), _level(scored.total)) for scored in progress.scores]
    rows = [(r, r.first, r.last) for r in (*progress.cohorts, progress.shared) if r.first and r.last]
    foot = _TOP + _PLOT + _AXIS + _ROW * len(rows)
    course = _course(points, x(ends))
    return Chart(
        width=width,
        height=foot + 8,
        left=_LEFT,
        right=right,
        top=_TOP,
        bottom=_TOP + _PLOT,
        levels=[(level, _level(level)) for level in (0, 25, 50, 75, 100)],
        course=course,
        area=f"{course}V{_level(0)}H{points[0][0]}Z" if points else "",
        points=points,
        bars=[_bar(row, x(_seconds(first)), x(_seconds(last)), place) for place, (row, first, last) in enumerate(rows)],
        ticks=_ticks(begins, span, ticks, x),
        deadline_x=x(deadline) if deadline else None,
    )


def _seconds(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()


def _level(score: float) -> float:
    return round(_TOP + _PLOT * (1 - score / 100), 1)


def _near(progress: Progress) -> float | None:
    """The deadline, if it lies ahead and not too far to be drawn."""
    if progress.deadline is None:
        return None
    begins, ends, deadline = map(_seconds, (progress.begins, progress.ends, progress.deadline))
    return deadline if ends <= deadline <= begins + _DEADLINE_WITHIN * (ends - begins) else None


def _course(points: Sequence[tuple[float, float]], end: float) -> str:
    """A score holds until the next one is measured."""
    if not points:
        return ""
    (x, y), *later = points
    return f"M{x} {y}" + "".join(f"H{x}V{y}" for x, y in later) + f"H{end}"


def _bar(row: CohortRow, first: float, last: float, place: int) -> Bar:
    """Not thinner than can be seen, and not beyond the drawing."""
    width = max(round(last - first, 1), _LEAST_BAR)
    return Bar(row=row, x=first, y=_TOP + _PLOT + _AXIS + 20 + _ROW * place, width=width)


def _ticks(begins: float, span: float, count: int, x: Callable[[float], float]) -> Sequence[tuple[float, str, str]]:
    """Moments in equal steps, with how their text is anchored."""
    seconds = [begins + span * step / (count - 1) for step in range(count)]
    anchors = ["start", *["middle"] * (count - 2), "end"]
    moments = [datetime.fromtimestamp(second, UTC).isoformat() for second in seconds]
    return list(zip(map(x, seconds), moments, anchors, strict=True))
