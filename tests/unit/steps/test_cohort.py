"""Waves on ports in memory: what is tracked and shown when, retries, and what a failure or a death leaves behind."""

from contextlib import suppress

import pytest

from alih.errors import Retryable
from alih.model.finding import Verdict
from alih.model.phase import IN_TRANSIT
from alih.model.side import Side
from alih.steps.cohort import ATTEMPTS, cut_over_cohort
from alih.steps.cutover import Aborted, Moved, recover
from tests.support.fakes import Crash, Fault, Kind, World

pytestmark = pytest.mark.anyio

TWO = ("1", "2")


def waves(world: World) -> list[str]:
    return [event for event in world.events if event.startswith(("show", "verify ")) and event != "verify changed"]


async def events_of(tenants: tuple[str, ...], lanes: int) -> int:
    world = World(tenants)
    await cut_over_cohort(tenants, world.convoy(lanes))
    return len(world.events)


async def test_a_wave_is_tracked_and_verified_before_its_holds_and_shown_directly_after() -> None:
    world = World(("1", "2", "3"))
    outcomes = await cut_over_cohort(("1", "2", "3"), world.convoy(wave=2))
    assert outcomes == [Moved("1", 1), Moved("2", 1), Moved("3", 1)]
    assert waves(world) == ["show ", "show 1,2", "verify 1,2", "show ", "show 3", "verify 3", "show "]
    assert world.events.index("hold") > world.events.index("verify 1,2")
    assert (world.tracked, world.held, world.shown) == (set(), set(), set())


async def test_tenants_that_are_there_already_are_left_alone() -> None:
    world = World(TWO)
    await cut_over_cohort(("1",), world.convoy())
    world.events.clear()
    assert await cut_over_cohort(TWO, world.convoy()) == [Moved("2", 1)]
    assert waves(world) == ["show ", "show 2", "verify 2", "show "]


async def test_a_wave_that_differs_is_never_held_and_tried_some_times() -> None:
    world = World(TWO, clean=False)
    reason = "1 of 3 rows differ, 0 undecided"
    assert await cut_over_cohort(TWO, world.convoy()) == [Aborted("1", reason), Aborted("2", reason)]
    assert waves(world) == ["show ", *["show 1,2", "verify 1,2", "show "] * ATTEMPTS]
    assert ("hold" in world.events, world.phase("1"), world.epoch("1")) == (False, "verified", 0)
    assert (world.tracked, world.shown) == (set(), set())


async def test_only_the_aborted_ones_are_tried_again() -> None:
    world = World(TWO)
    first_close = (await closes(TWO))[0]
    world.fault = Fault(first_close, Kind.BEFORE)
    assert await cut_over_cohort(TWO, world.convoy()) == [Moved("1", 3), Moved("2", 1)]
    assert waves(world) == ["show ", "show 1,2", "verify 1,2", "show ", "show 1", "verify 1", "show "]


async def closes(tenants: tuple[str, ...]) -> list[int]:
    world = World(tenants)
    await cut_over_cohort(tenants, world.convoy())
    return [at for at, event in enumerate(world.events, 1) if event == "close source"]


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("kind", [Kind.BEFORE, Kind.AFTER])
async def test_whatever_fails_nobody_is_held_and_the_next_command_moves_the_rest(kind: Kind, lanes: int) -> None:
    for at in range(1, await events_of(TWO, lanes) + 1):
        world = World(TWO, fault=Fault(at, kind))
        with suppress(Retryable):
            await cut_over_cohort(TWO, world.convoy(lanes))
        assert world.held == set(), world.events
        await cut_over_cohort(TWO, world.convoy(lanes))
        assert_moved(world)


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("kind", [Kind.DEAD, Kind.DEAD_AFTER])
async def test_wherever_it_dies_a_new_process_mends_and_moves_the_rest(kind: Kind, lanes: int) -> None:
    for at in range(1, await events_of(TWO, lanes) + 1):
        world = World(TWO, fault=Fault(at, kind))
        with pytest.raises((Crash, BaseExceptionGroup)):
            await cut_over_cohort(TWO, world.convoy(lanes))
        await restart(world)
        for tenant in TWO:
            assert world.accepting(tenant) == [world.journal_rows[tenant][0]], world.events
            assert not isinstance(world.journal_rows[tenant][2], IN_TRANSIT)
        await cut_over_cohort(TWO, world.convoy(lanes))
        assert_moved(world)


async def restart(world: World) -> None:
    """What the conductor does first."""
    world.restart()
    for tenant in world.tenants:
        if isinstance(world.journal_rows[tenant][2], IN_TRANSIT):
            world.tracked.add(tenant)
            await recover(tenant, {side: world.road(side) for side in Side})
    world.tracked.clear()
    world.shown.clear()


def assert_moved(world: World) -> None:
    for tenant in world.tenants:
        assert (world.accepting(tenant), world.phase(tenant)) == ([Side.TARGET], "soaking"), world.events
    assert (world.tracked, world.held, world.shown) == (set(), set(), set())


async def test_a_tenant_that_cannot_be_put_right_stays_held_until_the_next_command() -> None:
    """The source's database is away: its owner row cannot be turned back, so nobody can serve the tenant."""
    world = World(("1",))
    begin = world.begin

    def away(event: str) -> int:
        if event in ("open source", "applied"):
            raise Retryable("the source is away", remedy="none")
        return begin(event)

    world.begin = away  # type: ignore[method-assign]
    with pytest.raises(Retryable, match="the source is away"):
        await cut_over_cohort(("1",), world.convoy())
    assert (world.held, world.tracked, world.shown, world.phase()) == ({"1"}, {"1"}, {"1"}, "aborting")
    assert world.accepting("1") == []
    world.begin = begin  # type: ignore[method-assign]
    assert await cut_over_cohort(("1",), world.convoy()) == [Moved("1", 3)]
    assert_moved(world)


async def test_a_verification_that_fails_is_said_and_leaves_no_trace() -> None:
    world = World(TWO)
    convoy = world.convoy()

    async def stopped(_: object = None) -> Verdict:
        raise Retryable("the forward stream stopped", remedy="none")

    convoy.lead.verifier.recent_changes = stopped  # type: ignore[assignment,method-assign]
    with pytest.raises(Retryable, match="the forward stream stopped"):
        await cut_over_cohort(TWO, convoy)
    assert [world.phase(tenant) for tenant in TWO] == ["verified", "verified"]
    assert (world.tracked, world.shown) == (set(), set())
