"""Ranges of numbers that do not meet."""

import pytest

from alih.model.ranges import Drawn, Ranges, gap, ranges

BIG, INT, SMALL = 2**63 - 1, 2**31 - 1, 2**15 - 1
HUNDRED_MILLION = 100_000_000


def drawn(last: int, least: int | None = None, greatest: int | None = None, limit: int = BIG) -> Drawn:
    return Drawn(last, least, greatest, limit)


@pytest.mark.parametrize(("limit", "expected"), [(SMALL, 1_000), (INT, 10_000_000), (BIG, HUNDRED_MILLION)])
def test_the_gap_fits_the_type(limit: int, expected: int) -> None:
    assert gap(limit) == expected


def test_two_that_draw_at_the_same_place_are_set_apart_behind_all_numbers_of_either() -> None:
    start = 900 + HUNDRED_MILLION
    assert ranges(drawn(500, 1, 600), drawn(7, 1, 900), None) == Ranges(start, above=True, start=start)


def test_one_that_draws_far_behind_stays_and_its_range_begins_at_its_own_first_row() -> None:
    source, target = drawn(500, 1, 500), drawn(7_000_000_100, 1, 7_000_000_100)
    assert ranges(source, target, 7_000_000_001) == Ranges(7_000_000_001, above=True)
    assert ranges(source, drawn(7_000_000_000), None) == Ranges(7_000_000_001, above=True)


def test_one_that_draws_far_before_stays() -> None:
    source = drawn(5_000_000_000, 4_000_000_000, 5_000_000_000)
    assert ranges(source, drawn(300, 1, 5_000_000_000), None) == Ranges(4_000_000_000, above=False)
    assert ranges(drawn(4_999_999_999), drawn(300), None) == Ranges(5_000_000_000, above=False)


def test_one_with_rows_that_it_has_not_drawn_yet_is_set_behind_them() -> None:
    start = 9_000_000_000 + HUNDRED_MILLION
    source, target = drawn(500, 1, 500), drawn(7_000_000_000, 1, 9_000_000_000)
    assert ranges(source, target, 9_000_000_000) == Ranges(start, above=True, start=start)


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (drawn(2_130_000_000, 1, 2_130_000_000, INT), drawn(0, None, None)),
        (drawn(1, 1, 1), drawn(2_140_000_000, None, None, INT)),
        (drawn(2_140_000_000, 2_140_000_000, 2_140_000_000, INT), drawn(1, None, None)),
        (drawn(31_000, 1, 31_000, SMALL), drawn(0)),
    ],
)
def test_a_type_without_room_for_both_ranges(source: Drawn, target: Drawn) -> None:
    assert ranges(source, target, None) is None


def test_a_type_with_just_enough_room() -> None:
    assert ranges(drawn(30_767, 1, 30_767, SMALL), drawn(0), None) == Ranges(31_767, above=True, start=31_767)
    assert ranges(drawn(30_768, 1, 30_768, SMALL), drawn(0), None) is None
