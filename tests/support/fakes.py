"""A cutover's world in memory: each call on a port is one event that can fail before or after its effect, or be the
last thing that the process does. What must never be true is checked at every event."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from alih.errors import Corrupt, NeedsOperator, Retryable
from alih.model.change import Lsn
from alih.model.finding import Cause, Finding, Verdict
from alih.model.phase import Phase, Verified, advance, name
from alih.model.side import Ownership, Side
from alih.steps.cohort import Convoy
from alih.steps.cutover import Road


class Crash(BaseException):
    """The process is killed here: nothing of it runs on."""


class Kind(StrEnum):
    BEFORE = "before"  # the call fails and does nothing
    AFTER = "after"  # the call does its work, and its answer is lost
    DEAD = "dead"  # the process dies before the call
    DEAD_AFTER = "dead after"  # the process dies after the call


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens at the `at`-th event."""

    at: int
    kind: Kind


@dataclass
class World:
    """The durable part (journal, owner rows of both databases) and the part that dies with the process (gate)."""

    tenants: Sequence[str] = ("1",)
    owner: Side = Side.SOURCE
    fault: Fault | None = None
    clean: bool = True
    pending: int = 0
    drains: bool = True
    apart: bool = True
    events: list[str] = field(default_factory=list)
    dead: bool = False
    journal_rows: dict[str, tuple[Side, int, Phase]] = field(default_factory=dict)
    owner_rows: dict[Side, dict[str, tuple[Side, int]]] = field(default_factory=dict)
    tracked: set[str] = field(default_factory=set)
    held: set[str] = field(default_factory=set)
    shown: set[str] = field(default_factory=set)
    at: dict[str, Callable[[], None]] = field(default_factory=dict)
    """What else happens in the world just after the event of that name."""
    interrupts: str = ""
    """The wait that Ctrl-C comes in."""
    stalls: str = ""
    """The wait that does not end."""

    def __post_init__(self) -> None:
        self.journal_rows = {t: (self.owner, 0, Verified("0/1")) for t in self.tenants}
        self.owner_rows = {side: dict.fromkeys(self.tenants, (self.owner, 0)) for side in Side}

    def begin(self, event: str) -> int:
        """Note the event; fail here if that is planned before its effect. Gives its number."""
        if self.dead:
            raise Crash
        self.events.append(event)
        self._fail(len(self.events), Kind.BEFORE, Kind.DEAD)
        return len(self.events)

    def end(self, number: int | None = None) -> None:
        """Fail here if that is planned after the event's effect; whatever happens, one side at most accepts a write."""
        for tenant in self.tenants:
            assert len(self.accepting(tenant)) <= 1, (tenant, self.events)
        number = number or len(self.events)
        self.at.get(self.events[number - 1], lambda: None)()
        self._fail(number, Kind.AFTER, Kind.DEAD_AFTER)

    def _fail(self, number: int, failing: Kind, dying: Kind) -> None:
        if self.fault is None or self.fault.at != number:
            return
        if self.fault.kind is dying:
            self.dead = True
            raise Crash
        if self.fault.kind is failing:
            raise Retryable("planned", remedy="none")

    async def waited(self, event: str) -> None:
        """A call that takes its time."""
        number = self.begin(event)
        task = asyncio.current_task()
        if self.interrupts == event and task is not None:
            task.cancel()
        await (asyncio.Event().wait() if self.stalls == event else asyncio.sleep(0))
        self.end(number)

    def restart(self) -> None:
        """A new process: the gate knows nothing, the table is what was shown last."""
        self.dead, self.fault = False, None
        self.tracked.clear()
        self.held.clear()

    def accepting(self, tenant: str) -> list[Side]:
        return [side for side in Side if self.owner_rows[side][tenant][0] is side]

    def phase(self, tenant: str = "1") -> str:
        return name(self.journal_rows[tenant][2])

    def epoch(self, tenant: str = "1") -> int:
        return self.journal_rows[tenant][1]

    def road(self, leaving: Side = Side.SOURCE) -> Road:
        return Road(
            leaving=leaving,
            fences={side: FakeFence(self, side) for side in Side},
            stream=FakeStream(self),
            verifier=FakeVerifier(self),
            ranges=FakeRanges(self),
            gate=FakeGate(self),
            journal=FakeJournal(self),
            probe=FakeProbe(self),
            pause_s=0.0,
        )

    def convoy(self, lanes: int = 1, wave: int = 20) -> Convoy:
        roads = [self.road() for _ in range(lanes)]
        return Convoy(roads=roads, routes=FakeRoutes(self), wave=wave, tracked_s=0.0)


@dataclass
class FakeFence:
    world: World
    side: Side

    async def close(self, tenant: str, epoch: int) -> Lsn:
        return self._turn("close", tenant, self.side.other, epoch)

    async def open(self, tenant: str, epoch: int) -> Lsn:
        return self._turn("open", tenant, self.side, epoch)

    def _turn(self, what: str, tenant: str, side: Side, epoch: int) -> Lsn:
        self.world.begin(f"{what} {self.side}")
        had, at = self.world.owner_rows[self.side][tenant]
        if (what, had) != ("open", self.side):
            if at > epoch or (at == epoch and had is not side):
                raise Corrupt("a later attempt", remedy="none")
            self.world.owner_rows[self.side][tenant] = (side, epoch)
        self.world.end()
        return Lsn(7)


@dataclass
class FakeStream:
    world: World

    async def reached(self, position: Lsn, within_s: float) -> None:
        assert (position, within_s > 0) == (7, True)
        await self.world.waited("applied")


@dataclass
class FakeVerifier:
    world: World

    async def recent_changes(self, tenants: Sequence[str]) -> Verdict:
        self.world.begin(f"verify {','.join(tenants)}")
        self.world.end()
        return self._verdict()

    async def pending(self, tenant: str) -> int:
        assert tenant in self.world.tracked
        return self.world.pending

    async def changed_keys(self, tenant: str) -> Verdict:
        assert self.world.accepting(tenant) == [], "a tenant that is written to is verified as if it were not"
        await self.world.waited("verify changed")
        return self._verdict()

    def _verdict(self) -> Verdict:
        found = () if self.world.clean else (Finding(entity="orders", key=("9",), cause=Cause.MISSING),)
        return Verdict(rows=3, findings=found, undecided=0, position=Lsn(7))


@dataclass
class FakeRanges:
    world: World

    async def apart(self) -> None:
        await self.world.waited("ranges apart")
        if not self.world.apart:
            raise NeedsOperator("numbers meet", remedy="none")


@dataclass
class FakeGate:
    world: World

    def track(self, tenant: str) -> None:
        self.world.begin("track")
        self.world.tracked.add(tenant)
        self.world.end()

    def hold(self, tenant: str) -> None:
        self.world.begin("hold")
        assert tenant in self.world.tracked
        self.world.held.add(tenant)
        self.world.end()

    def release(self, tenant: str) -> None:
        self.world.begin("release")
        assert tenant in self.world.tracked
        assert self.world.accepting(tenant) == [self.world.journal_rows[tenant][0]], "let go to a side that refuses"
        self.world.held.discard(tenant)
        self.world.end()

    def forget(self, tenant: str) -> None:
        """No event: it is a change in our own memory that cannot fail."""
        self.world.tracked.discard(tenant)
        self.world.held.discard(tenant)

    async def drained(self, tenant: str, within_s: float) -> bool:
        assert (tenant in self.world.held, within_s > 0) == (True, True)
        await self.world.waited("drained")
        return self.world.drains


@dataclass
class FakeRoutes:
    world: World

    async def show(self, tracked: Sequence[str]) -> None:
        self.world.begin(f"show {','.join(tracked)}")
        self.world.shown = set(tracked)
        self.world.end()


@dataclass
class FakeJournal:
    """Reading it is no event: a failed read has no effect that another failure has not."""

    world: World

    async def owner(self, tenant: str) -> Ownership:
        self._alive()
        side, epoch, _ = self.world.journal_rows[tenant]
        return Ownership(tenant, side, epoch)

    async def phase(self, tenant: str) -> Phase:
        self._alive()
        return self.world.journal_rows[tenant][2]

    def _alive(self) -> None:
        if self.world.dead:
            raise Crash

    async def enter(self, tenant: str, phase: Phase) -> None:
        side, epoch, _ = self.world.journal_rows[tenant]
        self._write(tenant, side, epoch, phase, "")

    async def settle(self, tenant: str, owner: Side, epoch: int, phase: Phase) -> None:
        self._write(tenant, owner, epoch, phase, f" of {owner}")

    def _write(self, tenant: str, side: Side, epoch: int, phase: Phase, owner: str) -> None:
        self.world.begin(f"journal {name(phase)}{owner}")
        now = self.world.journal_rows[tenant]
        assert not owner or epoch > now[1]
        self.world.journal_rows[tenant] = (side, epoch, advance(now[2], phase))
        self.world.end()


@dataclass
class FakeProbe:
    world: World

    async def reached(self, point: str) -> None:
        self.world.begin(point)
        self.world.end()
