"""One direction of a migration: set up, copied, followed, verified.

Each part opens connections of its own, so that they can run in different processes.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from alih.errors import AlihError
from alih.model.change import Lsn
from alih.model.contract import CopyLimits, Scope
from alih.model.projection import Direction, Projection
from alih.model.side import Side
from alih.model.stream import Identity
from alih.postgres import canary, positions
from alih.postgres.copying import Desk
from alih.postgres.failures import named
from alih.postgres.installation import StreamName, open_stream, publish
from alih.postgres.life import FollowerLife
from alih.postgres.line import Line
from alih.postgres.log import LogStream, log_stream
from alih.postgres.positions import Applied
from alih.postgres.repair import Repair
from alih.postgres.session import Connection, connect
from alih.postgres.throttle import Pace, Throttle
from alih.postgres.verifier import Verifier
from alih.postgres.worker import Worker

_CAUGHT_UP_WITHIN_S = 600.0


@dataclass(frozen=True, slots=True)
class Engine:
    """The projections of one direction and the two databases they lie between."""

    migration: str
    direction: Direction
    projections: Sequence[Projection]
    source: str = field(repr=False)  # DSN
    target: str = field(repr=False)
    limits: CopyLimits = field(default_factory=CopyLimits)

    @property
    def name(self) -> StreamName:
        return StreamName(self.migration, self.direction)

    async def open(self) -> None:
        """Publication, slot, stream and chunks; safe to repeat."""
        async with self._both() as (reads, writes), self._log() as (_, identity):
            await publish(reads, self.name, self._streamed)
            if self._comes_back:
                await canary.offer(reads, self.name)
            copied = self._streamed if self.direction is Direction.FORWARD else []
            await open_stream(reads, writes, self.name, identity, copied)

    async def follow(self) -> None:
        """Apply this direction's log until cancelled; a connection that is lost is made anew."""
        projections: Sequence[Projection] = self._streamed
        publications: Sequence[str] = (str(self.name),)
        if self._comes_back:
            projections, publications = [*projections, canary.projection(self.direction)], self.name.publications
        reads, writes = self._dsn(self.direction.reads), self._dsn(self.direction.writes)
        await FollowerLife(self.name, publications, projections, reads, writes).follow()

    async def prove(self) -> None:
        """Prove with a canary row that this direction's stream, which has to be followed, carries rows."""
        with named(f"the {self.direction} stream"):
            async with self._both() as (reads, writes), self.applied() as applied:
                await canary.prove(reads, writes, applied, self.direction)

    async def copy(self, workers: int | None = None) -> int:
        """Copy every chunk that is not done, as many at a time as the contract says; returns how many were copied here.
        Other processes may work beside it. If a worker fails, the others are cancelled and its error is raised."""
        try:
            async with self._paced() as paced, asyncio.TaskGroup() as tasks:
                working = [tasks.create_task(self._work(paced)) for _ in range(workers or self.limits.workers)]
        except* AlihError as failed:
            failures = list(failed.exceptions)
        else:
            return sum(worker.result() for worker in working)
        raise failures[0]

    @asynccontextmanager
    async def _paced(self) -> AsyncIterator[Pace | None]:
        if self.limits == CopyLimits(workers=self.limits.workers):
            yield None
            return
        async with self._both() as (reads, writes):
            yield Throttle(self.limits, reads, writes).passed

    async def _work(self, paced: Pace | None) -> int:
        async with AsyncExitStack() as stack:
            reads = await stack.enter_async_context(await self.connect(self.direction.reads, autocommit=False))
            writes = await stack.enter_async_context(await self.connect(self.direction.writes, autocommit=False))
            desk = Desk(
                reads=reads,
                writes=writes,
                projections=self._streamed,
                cut=self._cut,
                position=self._position,
                caught_up=self._caught_up,
                paced=paced,
            )
            return await Worker(self.direction, desk).work()

    async def _cut(self) -> Lsn:
        """A place in the log behind all that the reading side has by now."""
        async with await self.connect(self.direction.reads) as reads:
            return await positions.cut(reads)

    async def _position(self) -> Lsn:
        """How far the follower has come."""
        async with self.applied() as applied:
            return await applied.position()

    async def _caught_up(self) -> None:
        """Return when the follower has applied all that the reading side has by now."""
        async with self.applied() as applied:
            await applied.reached(await self._cut(), _CAUGHT_UP_WITHIN_S)

    @asynccontextmanager
    async def verifier(self) -> AsyncIterator[Verifier]:
        async with self._both() as (reads, writes), self.applied() as applied:
            verifier = Verifier(self._streamed, reads, writes, applied)
            with named("verifying"):
                await verifier.prepare()
                yield verifier

    @asynccontextmanager
    async def repair(self, by: str) -> AsyncIterator[tuple[Repair, Verifier]]:
        """What mends rows, in the name of the account `by`, and what verifies them again."""
        async with self._both() as (reads, writes), self.applied() as applied:
            verifier = Verifier(self._streamed, reads, writes, applied)
            with named("repairing"):
                await verifier.prepare()
                yield Repair(self._streamed, reads, writes, applied, by), verifier

    @asynccontextmanager
    async def applied(self) -> AsyncIterator[Applied]:
        async with Line(self._dsn(self.direction.writes), f"the {self.direction.writes} database") as line:
            yield Applied(line, self.direction)

    async def connect(self, side: Side, *, autocommit: bool = True) -> Connection:
        return await connect(self._dsn(side), f"the {side} database", autocommit=autocommit)

    @asynccontextmanager
    async def _both(self) -> AsyncIterator[tuple[Connection, Connection]]:
        async with (
            await self.connect(self.direction.reads) as reads,
            await self.connect(self.direction.writes) as writes,
        ):
            yield reads, writes

    @property
    def _comes_back(self) -> bool:
        """Whether there are tenants, so that something flips: then alih's own tables are on both sides."""
        return any(p.scope is Scope.TENANT for p in self.projections)

    def _log(self) -> AbstractAsyncContextManager[tuple[LogStream, Identity]]:
        return log_stream(self._dsn(self.direction.reads), self.direction)

    def _dsn(self, side: Side) -> str:
        return self.source if side is Side.SOURCE else self.target

    @property
    def _streamed(self) -> Sequence[Projection]:
        """Reference rows have one writer for good; they never come back."""
        if self.direction is Direction.FORWARD:
            return self.projections
        return [p for p in self.projections if p.scope is not Scope.REFERENCE]
