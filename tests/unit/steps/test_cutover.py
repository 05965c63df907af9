"""One tenant's cutover on ports in memory: the order of its effects, and a failure or a death at every one of them."""

import asyncio
from dataclasses import replace

import pytest

from alih.errors import Corrupt
from alih.model.phase import Aborting, CaughtUp, Flipped, Soaking, Tracked
from alih.model.side import Side
from alih.steps.cutover import Aborted, Moved, Outcome, cut_over, recover
from tests.support.fakes import Crash, Fault, Kind, World

pytestmark = pytest.mark.anyio

SUCCESS = [
    "journal holding",
    "cutover.holding",
    "hold",
    "drained",
    "journal drained",
    "cutover.drained",
    "close source",
    "journal fenced",
    "cutover.fenced",
    "applied",
    "verify changed",
    "ranges apart",
    "journal caughtup",
    "cutover.caughtup",
    "journal flipped of target",
    "cutover.flipped",
    "open target",
    "cutover.opened",
    "journal soaking",
    "release",
]
ABORT = [
    "journal aborting",
    "cutover.aborting",
    "open source",
    "cutover.reopened",
    "journal verified of source",
    "release",
]
FLIP = SUCCESS.index("journal flipped of target") + 1


def ready(fault: Fault | None = None, *, clean: bool = True, drains: bool = True) -> World:
    """A world whose tenant is tracked."""
    made = World(fault=fault, clean=clean, drains=drains)
    made.journal_rows["1"] = (Side.SOURCE, 0, Tracked())
    made.tracked = {"1"}
    return made


def assert_stayed(world: World) -> None:
    assert world.accepting("1") == [Side.SOURCE]
    assert (world.journal_rows["1"][0], world.phase(), world.epoch()) == (Side.SOURCE, "verified", 2)
    assert world.held == set()


def assert_moved(world: World) -> None:
    assert world.accepting("1") == [Side.TARGET]
    assert (world.journal_rows["1"][0], world.phase(), world.epoch()) == (Side.TARGET, "soaking", 1)
    assert world.held == set()


def flipped(fault: Fault) -> bool:
    """Whether the control row names the target when the fault has happened."""
    return fault.at > FLIP or (fault.at == FLIP and fault.kind in (Kind.AFTER, Kind.DEAD_AFTER))


async def test_every_effect_comes_in_its_order() -> None:
    world = ready()
    assert await cut_over("1", world.road()) == Moved("1", 1)
    assert world.events == SUCCESS
    assert_moved(world)


@pytest.mark.parametrize("kind", [Kind.BEFORE, Kind.AFTER])
@pytest.mark.parametrize("at", range(1, len(SUCCESS) + 1), ids=lambda at: SUCCESS[at - 1])
async def test_a_failure_before_the_flip_aborts_and_one_after_it_is_completed(at: int, kind: Kind) -> None:
    fault = Fault(at, kind)
    world = ready(fault)
    outcome: Outcome = await cut_over("1", world.road())
    if flipped(fault):
        assert outcome == Moved("1", 1)
        assert_moved(world)
    else:
        assert outcome == Aborted("1", "planned")
        assert_stayed(world)
        assert world.events == [*SUCCESS[:at], *ABORT]


@pytest.mark.parametrize("kind", [Kind.DEAD, Kind.DEAD_AFTER])
@pytest.mark.parametrize("at", range(1, len(SUCCESS) + 1), ids=lambda at: SUCCESS[at - 1])
async def test_after_a_death_anywhere_recovery_finds_one_owner(at: int, kind: Kind) -> None:
    fault = Fault(at, kind)
    world = ready(fault)
    with pytest.raises(Crash):
        await cut_over("1", world.road())
    await restart_and_recover(world)
    if flipped(fault):
        assert_moved(world)
    else:
        assert_stayed(world)


@pytest.mark.parametrize("kind", list(Kind))
@pytest.mark.parametrize("at", range(1, len(ABORT) + 1), ids=lambda at: ABORT[at - 1])
async def test_an_abort_that_fails_or_dies_itself_is_done_again(at: int, kind: Kind) -> None:
    refused = SUCCESS.index("verify changed") + 1
    world = ready(Fault(refused + at, kind), clean=False)
    if kind in (Kind.BEFORE, Kind.AFTER):
        assert await cut_over("1", world.road()) == Aborted("1", "1 of 3 changed rows differ")
    else:
        with pytest.raises(Crash):
            await cut_over("1", world.road())
        await restart_and_recover(world)
    assert_stayed(world)


async def restart_and_recover(world: World) -> None:
    world.restart()
    world.tracked = {"1"}
    await recover("1", {side: world.road(side) for side in Side})
    once = (dict(world.journal_rows), dict(world.owner_rows))
    await recover("1", {side: world.road(side) for side in Side})
    assert (world.journal_rows, world.owner_rows) == once, "recovery that is repeated changes something"


async def test_requests_that_do_not_end_abort_before_anything_is_fenced() -> None:
    world = ready(drains=False)
    assert await cut_over("1", world.road()) == Aborted("1", "requests in flight did not end")
    assert world.events == [*SUCCESS[:4], *ABORT]
    assert_stayed(world)


async def test_numbers_that_could_meet_abort_by_name() -> None:
    world = ready()
    world.apart = False
    assert await cut_over("1", world.road()) == Aborted("1", "numbers meet")
    assert world.events == [*SUCCESS[: SUCCESS.index("ranges apart") + 1], *ABORT]
    assert_stayed(world)


async def test_an_aborted_tenant_moves_with_the_next_attempt_under_a_new_epoch() -> None:
    world = ready(Fault(7, Kind.AFTER))
    assert await cut_over("1", world.road()) == Aborted("1", "planned")
    world.journal_rows["1"] = (Side.SOURCE, 2, Tracked())
    assert await cut_over("1", world.road()) == Moved("1", 3)
    assert world.owner_rows == {Side.SOURCE: {"1": (Side.TARGET, 3)}, Side.TARGET: {"1": (Side.TARGET, 3)}}


@pytest.mark.parametrize("waiting", ["drained", "applied", "verify changed"])
async def test_ctrl_c_during_a_hold_puts_everything_back(waiting: str) -> None:
    world = ready()
    world.interrupts = waiting
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(cut_over("1", world.road()))
    assert task.cancelled()
    assert world.events == [*SUCCESS[: SUCCESS.index(waiting) + 1], *ABORT]
    assert_stayed(world)


async def test_a_hold_ends_with_its_budget() -> None:
    world = ready()
    world.stalls = "applied"
    road = replace(world.road(), budget_s=0.01)
    assert await cut_over("1", road) == Aborted("1", "the hold lasted too long")
    assert_stayed(world)


async def test_a_way_back_that_is_aborted_leaves_the_tenant_soaking() -> None:
    world = World(owner=Side.TARGET, clean=False)
    world.journal_rows["1"] = (Side.TARGET, 5, Tracked())
    world.tracked = {"1"}
    assert await cut_over("1", world.road(Side.TARGET)) == Aborted("1", "1 of 3 changed rows differ")
    assert world.journal_rows["1"] == (Side.TARGET, 7, Soaking(Side.TARGET, 7))
    assert world.accepting("1") == [Side.TARGET]


async def test_a_controller_that_was_overtaken_by_an_abort_cannot_flip() -> None:
    world = ready()
    overtaken = dict(world.journal_rows)

    def overtake() -> None:
        overtaken["1"] = world.journal_rows["1"]
        world.journal_rows["1"] = (Side.SOURCE, 0, Aborting(2))

    world.at["cutover.caughtup"] = overtake
    with pytest.raises(Corrupt, match="a tenant that is aborting cannot become flipped"):
        await cut_over("1", world.road())
    assert overtaken["1"][2] == CaughtUp(1, "0/7")
    assert_stayed(world)


async def test_a_controller_that_was_overtaken_by_a_flip_cannot_abort() -> None:
    world = ready(clean=False)

    def overtake() -> None:
        world.journal_rows["1"] = (Side.TARGET, 1, Flipped(Side.TARGET, 1))

    world.at["verify changed"] = overtake
    assert await cut_over("1", world.road()) == Moved("1", 1)
    assert_moved(world)


async def test_nobody_is_held_for_more_keys_than_a_hold_has_time_for() -> None:
    world = ready()
    world.pending = 50_001
    outcome = await cut_over("1", world.road())
    assert outcome == Aborted("1", "50001 keys changed since they were last found equal, and a hold has time for 50000")
    assert "hold" not in world.events
    assert world.accepting("1") == [Side.SOURCE]
