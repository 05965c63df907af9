"""What a snapshot sees, whatever the 32-bit ids have wrapped to, and what becomes of a change."""

import pytest

from alih.model.chunk import Apply, Done, Drop, Fate, Live, NotStarted, Snapshot, Spool, Spooling, fate

S = Snapshot(xmin=100, xmax=110, running=frozenset({100, 105}))
WRAP = 1 << 32


def test_parse() -> None:
    assert Snapshot.parse("100:110:100,105") == S
    assert Snapshot.parse("7:7:") == Snapshot(7, 7, frozenset())


@pytest.mark.parametrize(
    ("xid", "seen"), [(99, True), (100, False), (101, True), (105, False), (109, True), (110, False), (111, False)]
)
def test_what_a_snapshot_sees(xid: int, seen: bool) -> None:
    assert S.sees(xid) is seen


@pytest.mark.parametrize(
    ("xmax", "xid", "wide"),
    [
        (110, 109, 109),
        (110, 110, 110),
        (110, 500, 500),
        (3 * WRAP + 5, 4, 3 * WRAP + 4),
        (3 * WRAP + 5, WRAP - 1, 3 * WRAP - 1),  # began before the wrap
        (3 * WRAP - 1, 3, 3 * WRAP + 3),  # began after it, later than the snapshot
        (3 * WRAP, 0, 3 * WRAP),
        (3 * WRAP + WRAP // 2, 1, 3 * WRAP + 1),
        (3 * WRAP + 10, WRAP // 2 + 9, 3 * WRAP + WRAP // 2 + 9),
        (3 * WRAP + 10, WRAP // 2 + 11, 2 * WRAP + WRAP // 2 + 11),
    ],
)
def test_an_id_is_widened_to_the_nearest(xmax: int, xid: int, wide: int) -> None:
    assert Snapshot(xmax, xmax, frozenset()).widen(xid) == wide


def test_a_snapshot_after_the_wrap_sees_what_ended_before_it() -> None:
    after = Snapshot(3 * WRAP + 2, 3 * WRAP + 4, frozenset({3 * WRAP + 2}))
    assert [after.sees(x) for x in (WRAP - 1, 1, 2, 3, 4)] == [True, True, False, True, False]
    assert after.sees_all([WRAP - 1, 1])
    assert not after.sees_all([1, 2])
    assert after.sees_all([])


@pytest.mark.parametrize(
    ("state", "xid", "expected"),
    [
        (NotStarted(), 99, Drop(remember=True)),
        (Spooling(3), 99, Spool()),
        (Done(S), 99, Drop(remember=False)),
        (Done(S), 105, Apply()),
        (Done(S), 110, Apply()),
        (Live(), 99, Apply()),
    ],
)
def test_fate(state: NotStarted | Spooling | Done | Live, xid: int, expected: Fate) -> None:
    assert fate(state, xid) == expected
