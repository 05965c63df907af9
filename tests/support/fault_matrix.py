"""Which fault can strike which process where: the matrix, and a fault that strikes."""

import itertools
import random
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from alih.faults import Point
from alih.model.side import Side
from tests.support.faulted_bank import Bank
from tests.support.faulty import Action
from tests.support.nursery import Actor
from tests.support.waiting import until

FOLLOWER = (
    Point.BATCH_OPENED,
    Point.SEGMENT_WRITTEN,
    Point.BATCH_WRITTEN,
    Point.BATCH_COMMITTED,
    Point.BATCH_CONFIRMED,
)
WORKER = (Point.CHUNK_MARKED, Point.SNAPSHOT_TAKEN, Point.ROWS_COPIED, Point.SPOOL_REPLAYED, Point.CHUNK_DONE)
_STRUCK_WITHIN_S = 60.0


class Strike(StrEnum):
    """What happens when the point is reached."""

    KILLED = "it is killed"
    CUT = "its connections are cut"
    LOST_ANSWER = "what it asks is done and the answer lost"
    SOURCE_CRASHES = "the source crashes"
    TARGET_CRASHES = "the target crashes"
    SOURCE_DISCONNECTS = "the source ends its sessions"
    TARGET_DISCONNECTS = "the target ends its sessions"


_ACTIONS = {Strike.KILLED: Action.KILL, Strike.CUT: Action.CUT, Strike.LOST_ANSWER: Action.DEAFEN}


@dataclass(frozen=True, slots=True)
class Fault:
    point: Point
    strike: Strike
    nth: int = 1

    def __str__(self) -> str:
        return f"{self.point} {self.nth}: {self.strike}"

    @property
    def of_worker(self) -> bool:
        return self.point in WORKER

    @property
    def planted(self) -> Sequence[str]:
        return (self.point.value, _ACTIONS.get(self.strike, Action.STOP).value, str(self.nth))

    @classmethod
    def drawn(cls, generator: random.Random) -> "Fault":
        return cls(
            generator.choice(FOLLOWER + WORKER), generator.choice(list(Strike)), generator.choice((1, 1, 2, 3, 5))
        )


MATRIX = tuple(Fault(point, strike) for point, strike in itertools.product(FOLLOWER + WORKER, Strike))


async def struck(bank: Bank, actor: Actor, fault: Fault) -> bool:
    """Let the planted fault strike `actor`; false if it ended before it came to the point. It may live on."""
    stops = fault.planted[1] == Action.STOP
    await until(lambda: actor.ended.is_set() or (actor.stands_still if stops else actor.struck), _STRUCK_WITHIN_S)
    if stops and not actor.ended.is_set():
        await _meanwhile(bank, fault.strike)
        actor.send(signal.SIGCONT)
    if fault.strike is Strike.KILLED and actor.struck:
        assert await actor.end() == -signal.SIGKILL, actor.said()
    return actor.struck


async def _meanwhile(bank: Bank, strike: Strike) -> None:
    match strike:
        case Strike.SOURCE_CRASHES:
            await bank.crash(Side.SOURCE)
        case Strike.TARGET_CRASHES:
            await bank.crash(Side.TARGET)
        case Strike.SOURCE_DISCONNECTS:
            await bank.disconnect(Side.SOURCE)
        case Strike.TARGET_DISCONNECTS:
            await bank.disconnect(Side.TARGET)
        case _:
            raise AssertionError(strike)
