"""What a cutover needs from the world: only what a step calls. The real ones are in `alih.postgres` and
`alih.gateway`; the tests have others, in memory, that fail on demand."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from alih.model.change import Lsn
from alih.model.finding import Verdict
from alih.model.phase import Phase
from alih.model.side import Ownership, Side


class Fence(Protocol):
    """The owner rows of one database."""

    async def close(self, tenant: str, epoch: int) -> Lsn: ...
    async def open(self, tenant: str, epoch: int) -> Lsn: ...


class Stream(Protocol):
    """A stream that leads away from a side."""

    async def reached(self, position: Lsn, within_s: float) -> None: ...


class Verification(Protocol):
    """Comparison of what has changed since it was last verified: while it is written to, and behind a fence."""

    async def recent_changes(self, tenants: Sequence[str]) -> Verdict: ...
    async def pending(self, tenant: str) -> int: ...
    async def changed_keys(self, tenant: str) -> Verdict: ...


class Ranges(Protocol):
    """The numbers that each side draws for new rows."""

    async def apart(self) -> None: ...


class Gate(Protocol):
    """The proxy that tenants in transition pass."""

    def track(self, tenant: str) -> None: ...
    def hold(self, tenant: str) -> None: ...
    def release(self, tenant: str) -> None: ...
    def forget(self, tenant: str) -> None: ...
    async def drained(self, tenant: str, within_s: float) -> bool: ...


class Routes(Protocol):
    """The gateway's table: `show` returns when it is served. Tenants that are not tracked go to their owner."""

    async def show(self, tracked: Sequence[str]) -> None: ...


class Journal(Protocol):
    """alih's durable state: written before the effect that it announces."""

    async def owner(self, tenant: str) -> Ownership: ...
    async def phase(self, tenant: str) -> Phase: ...
    async def enter(self, tenant: str, phase: Phase) -> None: ...
    async def settle(self, tenant: str, owner: Side, epoch: int, phase: Phase) -> None: ...


class Probe(Protocol):
    """A named point in the code: nothing happens there, except in a test."""

    async def reached(self, point: str) -> None: ...


Fences = Mapping[Side, Fence]
