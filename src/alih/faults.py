"""Named points at which a process may die: nothing happens there, except where a test has planted a fault.

The points stand where a crash could tear two things apart: before and after each commit, and between a question and
the use of its answer. The tests kill, cut and restart at every one of them (tests/scenarios).
"""

from collections.abc import Callable
from enum import StrEnum


class Point(StrEnum):
    """A place in the code, named after what has just happened there."""

    SLOT_MADE = "slot made"
    CHUNK_MARKED = "chunk marked"
    SNAPSHOT_TAKEN = "snapshot taken"
    ROWS_COPIED = "rows copied"
    SPOOL_REPLAYED = "spool replayed"  # about to commit the chunk
    CHUNK_DONE = "chunk done"
    BATCH_OPENED = "batch opened"
    SEGMENT_WRITTEN = "segment written"
    BATCH_WRITTEN = "batch written"  # about to commit rows and position
    BATCH_COMMITTED = "batch committed"  # nothing is confirmed to the server yet
    BATCH_CONFIRMED = "batch confirmed"
    BUCKETS_HASHED = "buckets hashed"
    REPAIR_WRITTEN = "repair written"  # about to commit the repaired rows
    REPAIR_COMMITTED = "repair committed"


Fault = Callable[[Point], None]


class _Planted:
    fault: Fault | None = None


def plant(fault: Fault | None) -> None:
    """Have `fault` called at every point of this process; None takes it away."""
    _Planted.fault = fault


def reached(point: Point) -> None:
    """Say that `point` is reached."""
    if _Planted.fault is not None:
        _Planted.fault(point)
