"""A tenant's passage through the gate: open or held, how many requests are under way, how many ended uncleanly.

Everything here happens in one event loop. `Passage.entered` is called with no await after the decision to let a
request through, so a request is either seen as held or counted: never neither.
"""

import asyncio
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_BATCH = 20  # held requests that go on at once, and the pause between batches: a burst would slow everybody
_PAUSE_S = 0.005


@dataclass(eq=False, slots=True)
class Transit:
    """One request at the back end; `clean` once it is certain that the back end is not at work on it any more."""

    clean: bool = False


class Passage:
    """The state of one tenant at the gate."""

    def __init__(self, tenant: str, unclean_for_s: float) -> None:
        self.tenant = tenant
        self.tracked = False
        self.held = False
        self.generation = 0
        """Grows with each hold and release: an owner read under an older one is no longer to be trusted."""
        self.visitors = 0
        self.in_flight = 0
        self._unclean_for_s = unclean_for_s
        self._unclean_until: deque[float] = deque()
        self._idle = asyncio.Event()
        self._waiting: dict[asyncio.Future[None], None] = {}

    @property
    def unclean(self) -> int:
        """Requests that broke at the back end and may still be running there; each for `unclean_for_s`."""
        while self._unclean_until and self._unclean_until[0] <= time.monotonic():
            self._unclean_until.popleft()
        return len(self._unclean_until)

    @property
    def forgettable(self) -> bool:
        return not (self.tracked or self.held or self.visitors or self.unclean)

    def hold(self) -> None:
        self.held = True
        self.generation += 1

    def release(self) -> None:
        self.held = False
        self.generation += 1
        self._wake()

    async def reopened(self) -> None:
        """Wait until it is this request's turn after a release; the passage may be held again by then."""
        turn = asyncio.get_running_loop().create_future()
        self._waiting[turn] = None
        try:
            await turn
        finally:
            self._waiting.pop(turn, None)

    def entered(self) -> Transit:
        self.in_flight += 1
        self._idle.clear()
        return Transit()

    def left(self, transit: Transit) -> None:
        self.in_flight -= 1
        if not transit.clean:
            self._unclean_until.append(time.monotonic() + self._unclean_for_s)
        if not self.in_flight:
            self._idle.set()

    @contextmanager
    def visit(self) -> Iterator[None]:
        self.visitors += 1
        try:
            yield
        finally:
            self.visitors -= 1

    async def drained(self) -> None:
        """Wait until nothing is under way and nothing may still be."""
        while self.in_flight or self.unclean:
            if self.in_flight:
                await self._idle.wait()
            else:
                await asyncio.sleep(self._unclean_until[-1] - time.monotonic())

    def _wake(self) -> None:
        woken = 0
        while self._waiting and not self.held and woken < _BATCH:
            turn = next(iter(self._waiting))
            del self._waiting[turn]
            if not turn.done():
                turn.set_result(None)
                woken += 1
        if self._waiting and not self.held:
            asyncio.get_running_loop().call_later(_PAUSE_S, self._wake)
