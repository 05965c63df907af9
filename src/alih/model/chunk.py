"""Copy and log, stitched exactly: what becomes of a change while its chunk is copied; pure.

A chunk is a range of one table's keys, or a single row (`alih.model.stitching`). For each change of the log:

- chunk *not started*: drop it; the snapshot that the copy takes later contains it. Its transaction is remembered
  until it is *seen* visible, for a commit can be streamed before it is visible (as long as a synchronous standby
  is away), and a snapshot taken in that gap would miss the change for good.
- chunk *spooling* (being copied): keep it aside, in the transaction that moves the position.
- chunk *done* under snapshot S: apply it, unless S saw its transaction.

After DBLog (Andreakis, Papapanagiotou: "DBLog: A Watermark Based Change-Data-Capture Framework",
arXiv:2010.12597), with the server's own snapshot in the watermarks' place, which makes it exact per transaction.
"""

from collections.abc import Iterable
from dataclasses import dataclass

_WRAP = 1 << 32


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A `pg_current_snapshot()` of the primary: 64-bit transaction ids."""

    xmin: int
    xmax: int
    running: frozenset[int]

    @classmethod
    def parse(cls, text: str) -> "Snapshot":
        """From the server's text form `xmin:xmax:xip,xip,…`."""
        xmin, xmax, running = text.split(":")
        return cls(int(xmin), int(xmax), frozenset(int(x) for x in running.split(",") if x))

    def sees(self, xid: int) -> bool:
        """Whether the effects of the committed transaction `xid` (32 bits, as Begin carries it) are in here."""
        wide = self.widen(xid)
        return wide < self.xmin or (wide < self.xmax and wide not in self.running)

    def sees_all(self, xids: Iterable[int]) -> bool:
        return all(self.sees(xid) for xid in xids)

    def widen(self, xid: int) -> int:
        """The 64-bit id nearest to `xmax` whose low half is `xid`: a transaction that is still being decoded
        began less than 2^31 transactions away from any snapshot taken meanwhile."""
        behind = (self.xmax - xid) % _WRAP
        return self.xmax - behind if behind < _WRAP // 2 else self.xmax + (_WRAP - behind)


@dataclass(frozen=True, slots=True)
class NotStarted:
    """Nobody has read this chunk yet."""


@dataclass(frozen=True, slots=True)
class Spooling:
    """A worker copies it; `attempt` tells a worker that came back from the dead that it is no longer its turn."""

    attempt: int


@dataclass(frozen=True, slots=True)
class Done:
    """Copied under `snapshot`, its spool replayed."""

    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class Live:
    """Never copied in this direction (a reverse stream): every change counts."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Another's: what the copy of one chunk sees of all others while it replays its spool. Never stored."""


ChunkState = NotStarted | Spooling | Done | Live | Elsewhere


@dataclass(frozen=True, slots=True)
class Drop:
    """Forget the change; `remember` its transaction until it is seen visible."""

    remember: bool


@dataclass(frozen=True, slots=True)
class Spool:
    """Keep the change aside until the copy is merged."""


@dataclass(frozen=True, slots=True)
class Apply:
    """Write the change to the target."""


Fate = Drop | Spool | Apply


def fate(state: ChunkState, xid: int) -> Fate:
    """What becomes of a change of transaction `xid` whose chunk is in `state`."""
    match state:
        case NotStarted():
            return Drop(remember=True)
        case Spooling():
            return Spool()
        case Done(snapshot):
            return Drop(remember=False) if snapshot.sees(xid) else Apply()
        case Live():
            return Apply()
        case Elsewhere():
            return Drop(remember=False)
