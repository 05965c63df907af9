"""Rows as they were sent are staged as the same rows in cells are."""

from struct import pack

from hypothesis import given
from hypothesis import strategies as st

from alih.model.change import NULL, Cell, Insert
from alih.model.compaction import Kind, Segment
from alih.model.projection import ReadColumn
from alih.postgres.pgoutput import decode, sent_row
from alih.postgres.staging import Counts, Staging

TYPES = ["bigint", "text", "boolean", "numeric", "uuid", "text"]
COLUMNS = [ReadColumn(f"c{place}", type_, place == 0, type_) for place, type_ in enumerate(TYPES)]
WIDTHS = {"bigint": 8, "boolean": 1, "uuid": 16}
VALUES = [st.one_of(st.none(), st.binary(min_size=WIDTHS.get(t, 0), max_size=WIDTHS.get(t, 130))) for t in TYPES[1:]]
ROWS = st.lists(st.tuples(*VALUES), min_size=1, max_size=5)


def sent(number: int, values: tuple[bytes | None, ...]) -> bytes:
    cells = [b"b" + pack("!iq", 8, number), *(b"n" if v is None else b"b" + pack("!i", len(v)) + v for v in values)]
    return b"I" + pack("!I", 7) + b"N" + pack("!H", len(cells)) + b"".join(cells)


@given(ROWS)
def test_rows_as_sent_and_rows_in_cells(rows: list[tuple[bytes | None, ...]]) -> None:
    as_sent, in_cells = Segment(sent_row), Segment()
    for number, values in enumerate(rows):
        data = sent(number, values)
        change = decode(data)
        assert isinstance(change, Insert)
        in_cells.fold("e", (0,), change, number)
        key: Cell = change.new[0]
        as_sent.table("e")[key or NULL] = (Kind.INSERT, data, number, None)
    staging = Staging(COLUMNS)
    first, second = Counts(), Counts()
    assert b"".join(staging.blocks(as_sent, "e", first)) == b"".join(staging.blocks(in_cells, "e", second))
    assert +first == +second == {(Kind.INSERT, ""): len(rows)}
