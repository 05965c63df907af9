"""The state of a stream, by name, and what a look at the reading side says of it; pure.

A position means something on one server and one timeline only, and a slot keeps only what was written while it was
there. So each of them is compared with what was stored beside the position before any log is read.
"""

from dataclasses import dataclass
from enum import StrEnum

from alih.model.change import Lsn


class StreamState(StrEnum):
    """Where a stream stands; `alih status` shows it. All but the first need a person."""

    FOLLOWING = "following"
    STOPPED = "stopped"  # by name, for what the log or the writing side holds
    SLOT_LOST = "slot lost"
    FAILED_OVER = "failed over"
    PUBLICATION_GONE = "publication gone"


@dataclass(frozen=True, slots=True)
class Identity:
    """Which server this is, and which of its histories: a position means nothing on another one."""

    system_id: str
    timeline: int


@dataclass(frozen=True, slots=True)
class Stored:
    """What a stream remembers of its reading side. `publication` is the oid of its publication."""

    identity: Identity
    position: Lsn
    publication: int


@dataclass(frozen=True, slots=True)
class Seen:
    """What the reading side shows now. `wal_status` is the slot's (`pg_replication_slots`), None if there is no such
    slot; `confirmed` is what the server was told last; `publication` is None if there is none of that name."""

    identity: Identity
    wal_status: str | None
    confirmed: Lsn | None
    publication: int | None


def state_of(stored: Stored, seen: Seen) -> StreamState:
    """Whether the log can be read on without a gap, and if not, why.

    The server is asked for first: a promoted one has neither the slot nor a position that means anything. We never
    confirm what is not stored, so a slot that has confirmed more than that was moved on, or made, by somebody else.
    A publication that was made anew offered nothing for a while.
    """
    if stored.identity != seen.identity:
        return StreamState.FAILED_OVER
    if seen.wal_status in (None, "lost") or (seen.confirmed is not None and seen.confirmed > stored.position):
        return StreamState.SLOT_LOST
    if stored.publication != seen.publication:
        return StreamState.PUBLICATION_GONE
    return StreamState.FOLLOWING
