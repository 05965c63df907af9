"""What `alih serve` does with a migration: bring its tenants to *verified*, then obey the operator's commands.

Phases and owners are in the control database, so a conductor that died is followed by one that first puts right what
was left half done. The streams run in processes of their own; this one is never in the way of a row.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from alih.errors import AlihError, NeedsOperator, Refused, Retryable
from alih.gateway.envoy import Envoy
from alih.gateway.gate import Gate
from alih.gateway.routes import Destination, route_table
from alih.model.cohorts import SHARED_COHORT, assign
from alih.model.contract import Contract
from alih.model.finding import Verdict
from alih.model.phase import IN_TRANSIT, Copying, Done, Following, Planned, Soaking, Verified
from alih.model.projection import Direction
from alih.model.rehearsal import Obstacle
from alih.model.side import SHARED, Side
from alih.ports import Probe
from alih.postgres.control import Control
from alih.postgres.engine import Engine
from alih.postgres.fence import Fence
from alih.postgres.line import Line
from alih.postgres.sequences import SequenceRanges
from alih.steps.cohort import Convoy, cut_over_cohort
from alih.steps.cutover import Aborted, Outcome, Road, recover

Unexplained = Callable[[], Awaitable[Collection[str]]]
"""The tenants whose money does not reconcile at this moment."""

Losses = Callable[[Sequence[str]], Awaitable[Sequence[Obstacle]]]
"""What rows of these tenants would lose if they came back."""

_LANES = 2  # tenants that are cut over side by side; more of them only wait for one another
_LOOK_AGAIN_S = 5.0
_NO_COHORT = "-"  # of tenants that the contract leaves where they are


@dataclass(slots=True)
class Routing:
    """The gateway's table, made from the owners in the control database."""

    control: Control
    envoy: Envoy
    version: int
    notices: str | None = None

    async def show(self, tracked: Sequence[str]) -> None:
        """List only what differs from the default.

        The default stays the source until the shared rows have moved, after the last cohort: a shop that opens
        meanwhile is in no table, and the source is where it opens.
        """
        moved = set(await self.control.owned_by(Side.TARGET))
        staying = set(await self.control.owned_by(Side.SOURCE)) - {SHARED}
        finished = SHARED in moved and SHARED not in tracked
        default = Destination.TARGET if finished else Destination.SOURCE
        elsewhere = dict.fromkeys(staying, Destination.SOURCE) if finished else dict.fromkeys(moved, Destination.TARGET)
        # Shared paths pass the gate, whose read barrier they need, until the shared rows themselves have moved.
        shared = {SHARED: Destination.TARGET if finished else Destination.GATE}
        self.version += 1
        listed = elsewhere | dict.fromkeys(tracked, Destination.GATE) | shared
        await self.envoy.publish(route_table(self.version, default, listed, self.notices))


@dataclass(frozen=True, slots=True, kw_only=True)
class Conductor:
    """One migration with tenants. `tenants` are the source's, in key order."""

    contract: Contract
    tenants: Sequence[str]
    engines: Mapping[Direction, Engine]
    control_dsn: str = field(repr=False)
    gate: Gate
    routes: Routing
    control: Control
    probe: Probe
    unexplained: Unexplained
    losses: Losses

    async def prepare(self) -> Verdict:
        """Admit the tenants, mend what a dead conductor left, show the routes, copy, follow, verify.

        Rows that differ keep tenants from being cut over, and nobody from being served.
        """
        tried = self.contract.trial.test_tenants if self.contract.trial else {}
        cohorts = assign(self.contract.cohorts, self.tenants, tried)
        without = dict.fromkeys((t for t in self.tenants if t not in cohorts), _NO_COHORT)
        await self.control.admit(without | dict(cohorts) | {SHARED: SHARED_COHORT})
        await self._recover()
        await self.routes.show(tracked=())
        await self.control.enter_all(Copying(), before=Planned)
        await self.engines[Direction.FORWARD].copy()
        await self.control.enter_all(Following(), before=Copying)
        return await self._verify()

    async def _recover(self) -> None:
        stuck = await self.control.in_phase(*IN_TRANSIT)
        roads = {}
        async with AsyncExitStack() as stack:
            for direction, engine in self.engines.items():
                roads[direction.reads] = await stack.enter_async_context(self._road(engine))
            for tenant in stuck:
                self.gate.track(tenant)
                await recover(tenant, roads)
                self.gate.forget(tenant)

    async def _verify(self) -> Verdict:
        """Nothing is cut over before all that is at the source was found equal on the target."""
        staying = await self.control.owned_by(Side.SOURCE)
        async with self.engines[Direction.FORWARD].verifier() as verifier:
            verdict = await verifier.everything(staying)
            await verifier.record(verdict)
        await self.control.record_verdict(verdict, Direction.FORWARD)
        if verdict.clean:
            await self.control.enter_all(Verified(str(verdict.position)), before=Following)
        return verdict

    async def obey(self) -> None:
        """Carry out commands as they come, one after another, until cancelled.

        One that was left before is not carried out: who gave it may have gone, and does not expect it any more.
        """
        while (command := await self.control.next_command()) is not None:
            await self._refuse(command[0], Retryable("alih serve was started anew", remedy="give the command again"))
        while True:
            command = await self.control.next_command()
            if command is None:
                await self.control.stirred(_LOOK_AGAIN_S)
            else:
                await self._carry_out(*command)

    async def _carry_out(self, number: int, kind: str, argument: str) -> None:
        try:
            answer = await self._answer(kind, argument)
        except AlihError as failure:
            await self._refuse(number, failure)
        else:
            await self.control.answer(number, Retryable.exit_code if answer["aborted"] else 0, answer)

    async def _refuse(self, number: int, failure: AlihError) -> None:
        await self.control.answer(number, failure.exit_code, {"error": failure.message, "remedy": failure.remedy})

    async def _answer(self, kind: str, argument: str) -> dict[str, object]:
        tenants = await self.control.cohort(argument)
        if not tenants:
            raise Refused(f"cohort {argument} has no tenants", remedy="alih status lists the cohorts")
        match kind:
            case "cutover":
                return await self._move(argument, tenants)
            case "finish":
                return await self._finish(argument, tenants)
            case _:
                raise Refused(f"there is no command {kind}", remedy="see alih --help")

    async def _move(self, argument: str, tenants: Sequence[str]) -> dict[str, object]:
        await self._check_ready(argument, tenants)
        await self._check_returns(argument, tenants)
        outcomes = await self._cut_over(tenants)
        aborted = {o.tenant: o.reason for o in outcomes if isinstance(o, Aborted)}
        return {"cohort": argument, "moved": len(outcomes) - len(aborted), "aborted": aborted}

    async def _finish(self, cohort: str, tenants: Sequence[str]) -> dict[str, object]:
        """Close the way back: every rupiah of the cohort is explained, and all its rows were found equal once more."""
        soaking, done = await self.control.in_phase(Soaking), await self.control.in_phase(Done)
        moved = set(await self.control.owned_by(Side.TARGET))
        if away := set(tenants) - (moved & {*soaking, *done}):
            raise Refused(
                f"{len(away)} tenants of cohort {cohort} have not been moved",
                remedy=f"alih cutover {cohort} moves them",
            )
        if unexplained := set(tenants) & set(await self.unexplained()):
            raise NeedsOperator(
                f"the money of {len(unexplained)} tenants of cohort {cohort} is not explained to the last rupiah",
                remedy="alih reconcile names each difference; settle it between the operators, then run this again",
            )
        await self._found_equal_again(cohort, tenants)
        finishing = [tenant for tenant in tenants if tenant in soaking]
        for tenant in finishing:
            owner = await self.control.owner(tenant)
            await self.control.enter(tenant, Done(owner.side, owner.epoch))
        return {"cohort": cohort, "finished": len(finishing), "aborted": {}}

    async def _found_equal_again(self, cohort: str, tenants: Sequence[str]) -> None:
        async with self.engines[Direction.REVERSE].verifier() as verifier:
            verdict = await verifier.everything(tenants)
            await verifier.record(verdict)
        await self.control.record_verdict(verdict, Direction.REVERSE, scope=cohort)
        if not verdict.clean:
            raise NeedsOperator(
                f"{len(verdict.findings)} rows of cohort {cohort} differ, {verdict.undecided} could not be decided",
                remedy="see alih status --json for the rows' keys; mend the cause, then run this again",
            )

    async def _check_ready(self, cohort: str, tenants: Sequence[str]) -> None:
        if unverified := set(tenants) & set(await self.control.in_phase(Planned, Copying, Following)):
            raise NeedsOperator(
                f"{len(unverified)} tenants of cohort {cohort} were not found equal on both sides",
                remedy="see alih status --json for the rows' keys; mend the cause, then start alih serve again",
            )
        staying = set(await self.control.owned_by(Side.SOURCE)) - {SHARED}
        if cohort == SHARED_COHORT and staying:
            raise Refused(
                f"the shared rows are moved after all tenants, and {len(staying)} are still at the source",
                remedy="cut over the other cohorts first; a tenant in none needs one in the contract",
            )
        for engine in self.engines.values():  # the way there, and the way back, which nothing else has tried yet
            await engine.prove()

    async def _check_returns(self, cohort: str, tenants: Sequence[str]) -> None:
        """What was written since the copy has to be able to come back as well."""
        owned = set(await self.control.owned_by(Side.SOURCE))
        if losses := await self.losses([tenant for tenant in tenants if tenant in owned]):
            raise NeedsOperator(
                f"rows of cohort {cohort} would not come back as they are:\n" + "\n".join(map(str, losses)),
                remedy="correct each, then run this again",
            )

    async def _cut_over(self, tenants: Sequence[str]) -> list[Outcome]:
        engine = self.engines[Direction.FORWARD]
        async with AsyncExitStack() as stack:
            roads = [await stack.enter_async_context(self._road(engine)) for _ in range(min(_LANES, len(tenants)))]
            convoy = Convoy(roads=roads, routes=self.routes, wave=self.contract.wave, tracked_s=self._tracked_s)
            return await cut_over_cohort(tenants, convoy)

    @property
    def _tracked_s(self) -> float:
        return self.contract.gateway.request_max_ms / 1000 if self.contract.gateway else 0.0

    @asynccontextmanager
    async def _road(self, engine: Engine) -> AsyncIterator[Road]:
        """A road with connections of its own, so that several tenants can be cut over side by side."""
        async with AsyncExitStack() as stack:
            dsns = {Side.SOURCE: engine.source, Side.TARGET: engine.target}
            lines = {
                side: await stack.enter_async_context(Line(dsn, f"the {side} database")) for side, dsn in dsns.items()
            }
            journal = await stack.enter_async_context(Line(self.control_dsn, "the control database"))
            yield Road(
                leaving=engine.direction.reads,
                fences={side: Fence(line, side) for side, line in lines.items()},
                stream=await stack.enter_async_context(engine.applied()),
                verifier=await stack.enter_async_context(engine.verifier()),
                ranges=SequenceRanges(lines[Side.SOURCE], lines[Side.TARGET]),
                gate=self.gate,
                journal=Control(journal),
                probe=self.probe,
            )
