"""Folding: every pair of changes, and whole histories against a dictionary that stands for a table."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alih.errors import Corrupt
from alih.model.change import NULL, Cell, Change, Delete, Insert, Row, Update
from alih.model.compaction import Kind, RowChange, Segment, moved, moves_key

KEY = (0,)
A, B, C = b"a", b"b", b"c"
INSERT, UPDATE, DELETE = Insert(1, (A, B, C)), Update(1, None, (A, C, C)), Delete(1, (A, NULL, NULL))
PARTIAL = Update(1, None, (A, C, None))


def folded(*changes: Change) -> tuple[Kind, Row] | None:
    segment = Segment()
    for xid, change in enumerate(changes, start=1):
        segment.fold("e", KEY, change, xid)
    found = list(segment.of("e"))
    assert len(found) == len(segment) <= 1
    return (found[0].kind, found[0].row) if found else None


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        (INSERT, UPDATE, (Kind.INSERT, (A, C, C))),
        (INSERT, PARTIAL, (Kind.INSERT, (A, C, C))),
        (INSERT, DELETE, (Kind.NOTHING, INSERT.new)),
        (UPDATE, UPDATE, (Kind.UPDATE, (A, C, C))),
        (UPDATE, PARTIAL, (Kind.UPDATE, (A, C, C))),
        (UPDATE, DELETE, (Kind.DELETE, DELETE.old)),
        (PARTIAL, UPDATE, (Kind.UPDATE, (A, C, C))),
        (PARTIAL, PARTIAL, (Kind.PARTIAL, (A, C, None))),
        (PARTIAL, DELETE, (Kind.DELETE, DELETE.old)),
        (DELETE, INSERT, (Kind.REPLACE, (A, B, C))),
    ],
)
def test_pairs(first: Change, second: Change, expected: tuple[Kind, Row] | None) -> None:
    assert folded(first, second) == expected


@pytest.mark.parametrize(
    ("first", "second"),
    [(INSERT, INSERT), (UPDATE, INSERT), (PARTIAL, INSERT), (DELETE, UPDATE), (DELETE, PARTIAL), (DELETE, DELETE)],
)
def test_orders_that_no_log_has(first: Change, second: Change) -> None:
    with pytest.raises(Corrupt, match="impossible order"):
        folded(first, second)


@pytest.mark.parametrize(
    ("after", "expected"),
    [(UPDATE, (Kind.REPLACE, (A, C, C))), (PARTIAL, (Kind.REPLACE, (A, C, C))), (DELETE, (Kind.DELETE, DELETE.old))],
)
def test_after_a_replacement(after: Change, expected: tuple[Kind, Row]) -> None:
    assert folded(DELETE, INSERT, after) == expected


def test_what_came_and_went_may_come_again() -> None:
    assert folded(INSERT, DELETE, INSERT) == (Kind.INSERT, (A, B, C))
    with pytest.raises(Corrupt, match="impossible order"):
        folded(INSERT, DELETE, DELETE)


def test_the_last_transaction_is_kept_and_tables_are_apart() -> None:
    segment = Segment()
    segment.fold("e", KEY, INSERT, 5)
    segment.fold("other", KEY, UPDATE, 6)
    segment.fold("e", KEY, UPDATE, 7)
    assert list(segment.of("e")) == [RowChange(Kind.INSERT, (A, C, C), 7)]
    assert list(segment.of("other")) == [RowChange(Kind.UPDATE, (A, C, C), 6)]
    assert list(segment.of("none")) == []


def test_two_partial_rows_lack_only_what_both_lack() -> None:
    segment = Segment()
    segment.fold("e", KEY, Update(1, None, (A, None, C)), 1)
    segment.fold("e", KEY, Update(1, None, (A, None, None)), 2)
    (row,) = segment.of("e")
    assert (row.row, row.missing) == ((A, None, C), frozenset({1}))


def test_a_full_old_row_completes_and_a_key_left_out_is_taken_from_it() -> None:
    assert folded(Update(1, (A, B, B), (A, C, None), full=True)) == (Kind.UPDATE, (A, C, B))
    assert folded(Update(1, (A, NULL, NULL), (None, C, C))) == (Kind.UPDATE, (A, C, C))


@pytest.mark.parametrize(
    ("change", "moves"),
    [
        (INSERT, False),
        (DELETE, False),
        (UPDATE, False),
        (Update(1, (A, NULL, NULL), (B, C, C)), True),
        (Update(1, (A, B, C), (A, C, C), full=True), False),
        (Update(1, (A, NULL, NULL), (None, C, C)), False),
    ],
)
def test_which_changes_move_a_key(change: Change, moves: bool) -> None:
    assert moves_key(change, KEY) is moves


@pytest.mark.parametrize(("full", "row"), [(False, (B, C, None)), (True, (B, C, C))])
def test_a_change_of_key(full: bool, row: Row) -> None:
    change = Update(1, (A, NULL, C), (B, C, None), full=full)
    assert list(moved("e", KEY, change, 3).of("e")) == [RowChange(Kind.MOVE, row, 3, (A, NULL, C))]


# --- against a dictionary ------------------------------------------------------------------------------------

Table = dict[Cell, tuple[Cell, Cell]]
VALUE = st.sampled_from([b"1", b"2", b"3"])
STEPS = st.lists(st.tuples(st.sampled_from([A, B, C]), st.sampled_from("iupd"), VALUE, VALUE), max_size=40)


def history(steps: list[tuple[bytes, str, bytes, bytes]], table: Table) -> list[Change]:
    """The steps that a table allows, as its log has them; the table is left as they leave it."""
    log: list[Change] = []
    for key, step, one, two in steps:
        if step == "i" and key not in table:
            log.append(Insert(1, (key, one, two)))
            table[key] = one, two
        elif step == "u" and key in table:
            log.append(Update(1, None, (key, one, two)))
            table[key] = one, two
        elif step == "p" and key in table:
            log.append(Update(1, None, (key, one, None)))
            table[key] = one, table[key][1]
        elif step == "d" and key in table:
            log.append(Delete(1, (key, NULL, NULL)))
            del table[key]
    return log


def write(segment: Segment, table: Table) -> None:
    """What the statements do, each counted: nothing is overwritten, and nothing is missing."""
    for change in segment.of("e"):
        key, one, two = change.row
        if change.kind in (Kind.DELETE, Kind.REPLACE):
            del table[key]
        if change.kind in (Kind.UPDATE, Kind.PARTIAL):
            table[key] = one, table[key][1] if two is None else two
        if change.kind in (Kind.INSERT, Kind.REPLACE):
            assert key not in table
            table[key] = one, two


@given(start=st.dictionaries(st.sampled_from([A, B, C]), st.tuples(VALUE, VALUE)), steps=STEPS)
def test_a_folded_history_leaves_the_table_as_the_history_does(
    start: Table, steps: list[tuple[bytes, str, bytes, bytes]]
) -> None:
    table: Table = dict(start.items())
    log = history(steps, table)
    segment = Segment()
    for xid, change in enumerate(log):
        segment.fold("e", KEY, change, xid)
    written: Table = dict(start.items())
    write(segment, written)
    assert written == table
    in_halves: Table = dict(start.items())
    for half in segment.halves():
        write(half, in_halves)
    assert in_halves == table
