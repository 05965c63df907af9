"""The transition table, every pair of it."""

import itertools

import pytest

from alih.errors import Corrupt
from alih.model.phase import (
    Aborting,
    CaughtUp,
    Copying,
    Done,
    Drained,
    Fenced,
    Flipped,
    Following,
    Holding,
    Phase,
    Planned,
    Soaking,
    Tracked,
    Verified,
    advance,
    decode,
    encode,
    must_abort,
    name,
)
from alih.model.side import Side

ALL: tuple[Phase, ...] = (
    Planned(),
    Copying(),
    Following(),
    Verified("0/16B3748"),
    Tracked(),
    Holding(3),
    Drained(3),
    Fenced(3, "0/16B3750"),
    CaughtUp(3, "0/16B3750"),
    Aborting(4),
    Flipped(Side.TARGET, 3),
    Soaking(Side.TARGET, 3),
    Done(Side.TARGET, 3),
)
ALLOWED = {
    "planned": {"copying"},
    "copying": {"following"},
    "following": {"verified"},
    "verified": {"verified", "tracked"},
    "tracked": {"holding", "aborting", "verified", "soaking"},
    "holding": {"drained", "aborting"},
    "drained": {"fenced", "aborting"},
    "fenced": {"caughtup", "aborting"},
    "caughtup": {"flipped", "aborting"},
    "aborting": {"aborting", "verified", "soaking"},
    "flipped": {"soaking"},
    "soaking": {"tracked", "done"},
    "done": set(),
}


@pytest.mark.parametrize(("now", "then"), list(itertools.product(ALL, ALL)), ids=name)
def test_a_phase_follows_only_where_the_table_says_so(now: Phase, then: Phase) -> None:
    if name(then) in ALLOWED[name(now)]:
        assert advance(now, then) is then
    else:
        with pytest.raises(Corrupt, match=f"a tenant that is {name(now)} cannot become {name(then)}"):
            advance(now, then)


def test_nothing_leads_from_an_abort_to_a_flip_or_back() -> None:
    assert "flipped" not in ALLOWED["aborting"]
    assert "aborting" not in ALLOWED["flipped"]


@pytest.mark.parametrize("phase", ALL, ids=name)
def test_a_phase_is_read_as_it_was_written(phase: Phase) -> None:
    assert decode(*encode(phase)) == phase


def test_a_word_that_is_no_phase_is_refused() -> None:
    with pytest.raises(Corrupt, match="there is no phase 'sleeping'"):
        decode("sleeping", {})


def test_what_a_crash_leaves_before_the_flip_is_undone() -> None:
    assert {name(phase) for phase in ALL if must_abort(phase)} == {
        "tracked",
        "holding",
        "drained",
        "fenced",
        "caughtup",
        "aborting",
    }
