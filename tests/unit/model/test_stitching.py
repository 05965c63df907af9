"""To which chunk a key belongs, and what becomes of each half of a change that moves a row between two."""

from collections.abc import Sequence
from uuid import UUID

import pytest

from alih.errors import Corrupt
from alih.model.change import NULL, Cell, Delete, Insert, Lsn, Update
from alih.model.chunk import ChunkState, Done, Elsewhere, Live, NotStarted, Snapshot, Spooling
from alih.model.projection import ReadColumn
from alih.model.stitching import Chunk, EntityChunks, Forget, Keep, Part, Reread, Write, one_row, route

X = 105
SAW = Done(Snapshot(200, 200, frozenset()))
BEFORE = Done(Snapshot(100, 100, frozenset()))
COLUMNS = (ReadColumn("id", "bigint", True, wire="bigint"), ReadColumn("body", "text", False, wire="text"))


def cell(value: int | str | bytes) -> bytes:
    if isinstance(value, int):
        value = value.to_bytes(8, "big", signed=True)
    elif isinstance(value, str):
        value = value.encode()
    return len(value).to_bytes(4, "big") + value


TEXT = cell("text")


def two(left: ChunkState, right: ChunkState) -> EntityChunks:
    """Keys below 100, and the others."""
    return EntityChunks(COLUMNS, ["id"], [at(1, left, None, "100"), at(2, right, "100", None)])


def at(number: int, state: ChunkState, *bounds: str | None) -> Chunk:
    lower, upper = (None if bound is None else [bound] for bound in bounds)
    return Chunk(id=number, state=state, lower=lower, upper=upper, settled=Lsn(10 * number))


def move(old: int, new: int, body: Cell = TEXT) -> Update:
    return Update(7, (cell(old), NULL), (cell(new), body))


@pytest.mark.parametrize(
    ("key", "chunk"), [(-(2**63), 1), (-1, 1), (0, 1), (99, 1), (100, 2), (101, 2), (2**63 - 1, 2)]
)
def test_a_range_has_its_lower_bound_and_not_its_upper(key: int, chunk: int) -> None:
    assert two(NotStarted(), NotStarted()).of((cell(key), NULL)).id == chunk


def test_a_key_of_several_columns_is_ordered_by_its_beginning() -> None:
    columns = (
        ReadColumn("line", "character varying", True, wire="character varying"),
        ReadColumn("note", "text", False, wire="text"),
        ReadColumn("shop", "uuid", True, wire="uuid"),
        ReadColumn("seq", "numeric", True, wire="numeric"),
    )
    low, high = "00000000-0000-4000-8000-000000000001", "f0000000-0000-4000-8000-000000000001"
    bounds: list[list[str] | None] = [None, [low, "b"], [low, "bb"], [high, ""], None]
    chunks = [Chunk(id=i, state=NotStarted(), lower=bounds[i], upper=bounds[i + 1]) for i in (2, 0, 3, 1)]
    found = EntityChunks(columns, ["shop", "line"], chunks)
    rows = [(low, "a"), (low, "b"), (low, "ba\U0001f600"), (low, "bb"), (low, "é"), (high, ""), (high, "z")]
    at_rows = [found.of((cell(line), NULL, cell(UUID(shop).bytes), cell(b"n"))).id for shop, line in rows]
    assert at_rows == [0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize(
    "bounds",
    [
        [],
        [(None, "5")],
        [("5", None)],
        [(None, "5"), ("6", None)],
        [(None, "6"), ("5", None)],
        [(None, None), (None, None)],
        [(None, "5"), ("5", "9"), ("5", None)],
    ],
)
def test_ranges_that_do_not_make_up_the_whole_are_refused(bounds: Sequence[tuple[str | None, str | None]]) -> None:
    chunks = [at(number, NotStarted(), *pair) for number, pair in enumerate(bounds)]
    with pytest.raises(Corrupt, match="leave a gap or overlap"):
        EntityChunks(COLUMNS, ["id"], chunks)


DELETED, INSERTED = Delete(7, (cell(5), NULL)), Insert(7, (cell(500), cell("text")))
STATES: dict[str, tuple[ChunkState, Part, Part]] = {
    "not started": (NotStarted(), Forget(remember=True), Forget(remember=True)),
    "spooling": (Spooling(3), Keep(1), Keep(2)),
    "done, seen": (SAW, Forget(remember=False), Forget(remember=False)),
    "done before": (BEFORE, Write(DELETED), Write(INSERTED)),
}


@pytest.mark.parametrize("left", STATES)
@pytest.mark.parametrize("right", STATES)
def test_a_move_between_two_chunks_is_a_delete_and_an_insert_each_with_its_own_fate(left: str, right: str) -> None:
    chunks = two(STATES[left][0], STATES[right][0])
    change = move(5, 500)
    if left == right == "done before":
        assert route(chunks, change, X) == (Write(change),)
    else:
        assert route(chunks, change, X) == (STATES[left][1], STATES[right][2])


@pytest.mark.parametrize("left", STATES)
@pytest.mark.parametrize("right", STATES)
def test_a_row_that_has_to_be_inserted_but_did_not_arrive_whole_is_read_anew(left: str, right: str) -> None:
    chunks = two(STATES[left][0], STATES[right][0])
    change = move(5, 500, None)
    if left == right == "done before":
        assert route(chunks, change, X) == (Write(change),)  # the row is there, and keeps what did not arrive
    elif right == "done before":
        assert route(chunks, change, X) == (STATES[left][1], Reread((cell(500),)))
    else:
        assert route(chunks, change, X) == (STATES[left][1], STATES[right][2])


def test_an_old_row_that_arrived_whole_completes_the_new_one() -> None:
    change = Update(7, (cell(5), cell("kept")), (cell(500), None), full=True)
    assert route(two(SAW, BEFORE), change, X)[1] == Write(Insert(7, (cell(500), cell("kept"))))


@pytest.mark.parametrize("state", STATES)
def test_a_move_within_a_chunk_stays_one_change(state: str) -> None:
    change = move(5, 6, None)
    parts = route(two(STATES[state][0], NotStarted()), change, X)
    whole = {"done before": Write(change)}
    assert parts == (whole.get(state, STATES[state][1]),)


@pytest.mark.parametrize("change", [DELETED, Insert(7, (cell(5), NULL)), Update(7, None, (cell(5), None))])
def test_a_change_that_keeps_its_key_has_one_part(change: Delete | Insert | Update) -> None:
    assert route(two(BEFORE, NotStarted()), change, X) == (Write(change),)
    assert route(two(Spooling(1), NotStarted()), change, X) == (Keep(1),)


def test_a_key_that_the_log_left_out_stands_in_the_old_row() -> None:
    columns = (ReadColumn("id", "text", True, wire="text"), ReadColumn("n", "integer", False, wire="integer"))
    chunks = EntityChunks(columns, ["id"], [at(1, BEFORE, None, "m"), at(2, NotStarted(), "m", None)])
    change = Update(7, (cell("z"), NULL), (None, cell(1)))
    assert route(chunks, change, X) == (Forget(remember=True),)


def test_a_row_of_its_own_comes_before_its_range() -> None:
    chunks = two(BEFORE, BEFORE)
    chunks.add_row(one_row(9, (cell(500),)))
    assert route(chunks, Update(7, None, (cell(500), None)), X) == (Forget(remember=True),)
    assert route(chunks, Update(7, None, (cell(501), None)), X) == (Write(Update(7, None, (cell(501), None))),)
    assert route(chunks, move(500, 5), X) == (Forget(remember=True), Write(Insert(7, (cell(5), cell("text")))))
    assert route(chunks, move(500, 5, None), X) == (Forget(remember=True), Reread((cell(5),)))


def test_all_is_settled_once_all_is_done_and_behind_every_snapshot() -> None:
    chunks = two(SAW, BEFORE)
    assert [chunks.settled(Lsn(at)) for at in (19, 20, 21)] == [False, True, True]
    assert not two(SAW, NotStarted()).settled(Lsn(99))
    assert not two(SAW, Spooling(1)).settled(Lsn(99))
    chunks.add_row(one_row(9, (cell(500),)))
    assert not chunks.settled(Lsn(99))


def test_a_copy_replays_its_own_half_of_what_was_spooled() -> None:
    """And a row that cannot be completed is a chunk of its own from there on."""
    chunks = two(Spooling(1), Spooling(1))
    left, right = chunks.as_seen_by(1, BEFORE), chunks.as_seen_by(2, BEFORE)
    assert route(left, move(5, 500), X) == (Write(DELETED), Forget(remember=False))
    assert route(right, move(5, 500), X) == (Forget(remember=False), Write(INSERTED))
    assert route(chunks.as_seen_by(2, SAW), move(5, 500), X) == (Forget(remember=False),) * 2
    assert route(right, move(5, 500, None), X) == (Forget(remember=False), Reread((cell(500),)))
    right.add_row(one_row(0, (cell(500),)))
    assert route(right, Update(7, None, (cell(500), None)), X) == (Forget(remember=True),)
    assert route(chunks, move(5, 500), X) == (Keep(1), Keep(2))


def test_others_and_never_copied() -> None:
    assert route(two(Elsewhere(), Live()), DELETED, X) == (Forget(remember=False),)
    assert route(two(Elsewhere(), Live()), INSERTED, X) == (Write(INSERTED),)
