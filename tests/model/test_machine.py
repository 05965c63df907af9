"""The stitch, driven through interleavings that no test would think of; and each known bug, planted, is found.

`modelled interleavings` are the examples of the rule machine: each is a schedule of writers, follower and workers, its
steps chosen by Hypothesis, checked after every step and again when everything has come to an end.
"""

from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from alih.errors import Corrupt
from alih.model import chunk, compaction, stitching
from tests.model.engine import Bug
from tests.model.machine import Stitch

SEED = 20_261_124
FEW, MANY = 300, 20_000


def drive(machine: type[Stitch], examples: int, *phases: Phase) -> None:
    chosen = settings(
        max_examples=examples,
        stateful_step_count=50,
        deadline=None,
        database=None,
        phases=phases or (Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(seed(SEED)(machine), settings=chosen)


@pytest.mark.parametrize("examples", [FEW, pytest.param(MANY, marks=pytest.mark.long)])
def test_interleavings(examples: int) -> None:
    runs, steps = Stitch.runs, Stitch.steps
    drive(Stitch, examples)
    runs, steps = Stitch.runs - runs, Stitch.steps - steps
    print(f"seed {SEED}: {runs} interleavings, {steps} steps")  # noqa: T201 - pytest -s or a failure shows it
    assert runs >= examples
    assert steps > 10 * runs


def of_steps(bug: Bug) -> AbstractContextManager[Any]:
    return mock.patch.object(Stitch, "bug", bug)


def forgetful() -> AbstractContextManager[Any]:
    """What was dropped is not remembered."""
    right = chunk.fate

    def fate(state: chunk.ChunkState, xid: int) -> chunk.Fate:
        decided = right(state, xid)
        return chunk.Drop(remember=False) if isinstance(decided, chunk.Drop) else decided

    return mock.patch.object(stitching, "fate", fate)


def narrow() -> AbstractContextManager[Any]:
    """A 32-bit id is compared as it is."""
    return mock.patch.object(chunk.Snapshot, "widen", lambda _, xid: xid)


def folded_across_a_partial() -> AbstractContextManager[Any]:
    """What did not arrive is not taken from the earlier change of the fold."""
    return mock.patch.object(compaction, "_completed", lambda change, _: change.new)


def moved_in_one_piece() -> AbstractContextManager[Any]:
    """A key that moves into another chunk is judged by the chunk that it leaves."""

    def route_move(chunks: Any, change: Any, old: Any, xid: int) -> tuple[stitching.Part]:
        return (stitching._part(chunks.of(old), change, xid),)

    return mock.patch.object(stitching, "_route_move", route_move)


PLANTED = {
    "dropped ids are not remembered": forgetful(),
    "ids are not widened": narrow(),
    "a fold across a partial row": folded_across_a_partial(),
    "a move between chunks in one piece": moved_in_one_piece(),
    **{bug.name.lower().replace("_", " "): of_steps(bug) for bug in Bug if bug is not Bug.NONE},
}


_FOUND_AT_ONCE = {
    "ids are not widened",
    "a fold across a partial row",
    "skipped by commit end",
    "states without a lock",
}


@pytest.mark.parametrize(
    "bug", [pytest.param(bug, marks=() if bug in _FOUND_AT_ONCE else pytest.mark.long) for bug in PLANTED]
)
def test_a_planted_bug_is_found(bug: str) -> None:
    with PLANTED[bug], pytest.raises((AssertionError, Corrupt, KeyError)):
        drive(Stitch, 3_000, Phase.generate)
