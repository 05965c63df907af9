"""Where a tenant stands, and what may happen to it next: the one transition table; pure.

    planned → copying → following → verified
            → tracked → holding → drained → fenced → caught up
            ══ FLIP: one control row, epoch + 1 ══ the point of no return
            → opened → soaking → done

Before the flip every failure aborts: *aborting* is journaled first, and from then on that attempt cannot flip; then
the leaving side is opened again, and the tenant is *verified* there as before. After the flip a rerun completes. A
rollback is the same road from *soaking*, the sides exchanged; aborted, it ends in *soaking*. From *done* no road leads
back.
"""

from dataclasses import asdict, dataclass
from typing import Any

from alih.errors import Corrupt
from alih.model.side import Side


@dataclass(frozen=True, slots=True)
class Planned:
    """Named by a cohort; nothing of it has crossed."""


@dataclass(frozen=True, slots=True)
class Copying:
    """Its rows are being copied."""


@dataclass(frozen=True, slots=True)
class Following:
    """Copied; changes are applied as they come."""


@dataclass(frozen=True, slots=True)
class Verified:
    """Found equal at `position` of the source's log; may be cut over."""

    position: str


@dataclass(frozen=True, slots=True)
class Tracked:
    """All its requests go through the gate, so that the ones in flight can be counted."""


@dataclass(frozen=True, slots=True)
class Holding:
    """New requests wait at the gate; `epoch` is what this attempt will own under."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Drained:
    """No request of it is in flight."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Fenced:
    """The leaving side refuses its writes; `cut` lies after every one it accepted."""

    epoch: int
    cut: str


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """Everything before the cut is applied, and the changed keys were found equal."""

    epoch: int
    cut: str


@dataclass(frozen=True, slots=True)
class Aborting:
    """The attempt has failed before its flip, which is ruled out now; the leaving side is being opened again."""

    epoch: int


@dataclass(frozen=True, slots=True)
class Flipped:
    """The control row names `owner`. Whatever fails from here on is completed, not undone."""

    owner: Side
    epoch: int


@dataclass(frozen=True, slots=True)
class Soaking:
    """The new owner serves; the way back stays open."""

    owner: Side
    epoch: int


@dataclass(frozen=True, slots=True)
class Done:
    """Its money is accounted for and its rows were found equal once more: the way back is closed."""

    owner: Side
    epoch: int


Phase = (
    Planned
    | Copying
    | Following
    | Verified
    | Tracked
    | Holding
    | Drained
    | Fenced
    | CaughtUp
    | Aborting
    | Flipped
    | Soaking
    | Done
)

_NEXT: dict[type[Phase], tuple[type[Phase], ...]] = {
    Planned: (Copying,),
    Copying: (Following,),
    Following: (Verified,),
    Verified: (Verified, Tracked),
    Tracked: (Holding, Aborting, Verified, Soaking),
    Holding: (Drained, Aborting),
    Drained: (Fenced, Aborting),
    Fenced: (CaughtUp, Aborting),
    CaughtUp: (Flipped, Aborting),
    Aborting: (Aborting, Verified, Soaking),
    Flipped: (Soaking,),
    Soaking: (Tracked, Done),
    Done: (),
}

IN_TRANSIT = (Tracked, Holding, Drained, Fenced, CaughtUp, Aborting, Flipped)
"""Phases that a tenant is in only while a controller works on it."""

_BY_NAME: dict[str, type[Phase]] = {kind.__name__.lower(): kind for kind in _NEXT}


def advance(now: Phase, then: Phase) -> Phase:
    """`then`, if it may follow `now`. Raises Corrupt otherwise: a step was run out of order."""
    if type(then) not in _NEXT[type(now)]:
        raise Corrupt(
            f"a tenant that is {name(now)} cannot become {name(then)}",
            remedy="two controllers may be acting at once: stop all but one, then start alih serve again",
        )
    return then


def must_abort(phase: Phase) -> bool:
    """Whether a controller that finds this after a crash puts the tenant back on its old owner."""
    return isinstance(phase, IN_TRANSIT) and not isinstance(phase, Flipped)


def name(phase: Phase) -> str:
    """The word for a phase in the journal, the command line and the report."""
    return type(phase).__name__.lower()


def encode(phase: Phase) -> tuple[str, dict[str, Any]]:
    """As it is stored: its word and its data."""
    return name(phase), asdict(phase)


def decode(word: str, data: dict[str, Any]) -> Phase:
    """The inverse of `encode`. Raises Corrupt for a word that is no phase."""
    if word not in _BY_NAME:
        raise Corrupt(f"there is no phase {word!r}", remedy="the control database is of another version of alih")
    kind = _BY_NAME[word]
    if "owner" in data:
        data = data | {"owner": Side(data["owner"])}
    return kind(**data)
