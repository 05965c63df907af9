"""pgoutput messages made by hand, byte for byte, after the protocol's documentation."""

from struct import pack

import pytest

from alih.errors import NeedsOperator
from alih.model.change import (
    NULL,
    Begin,
    Change,
    Commit,
    Delete,
    Ignored,
    Insert,
    Lsn,
    Message,
    Relation,
    Truncate,
    Update,
)
from alih.postgres.pgoutput import decode

ONE = pack("!ii", 4, 1)  # a length and an integer, as binary COPY writes them
EMPTY = pack("!i", 0)
BINARY_ONE = b"b" + ONE
ROW = pack("!H", 3) + BINARY_ONE + b"n" + b"b" + EMPTY
KEY = pack("!H", 3) + BINARY_ONE + b"nn"
OID = pack("!I", 16385)


def test_lsn() -> None:
    assert Lsn.parse("16/B374D848") == Lsn(0x16_B374D848)
    assert str(Lsn(0x16_B374D848)) == "16/B374D848"
    assert str(Lsn.parse("0/0")) == "0/0"


def test_begin_and_commit() -> None:
    assert decode(b"B" + pack("!QqI", 2**33 + 5, 1_000_000, 2**32 - 1)) == Begin(Lsn(2**33 + 5), 1_000_000, 2**32 - 1)
    assert decode(b"C" + pack("!BQQq", 0, 10, 20, 30)) == Commit(Lsn(10), Lsn(20))


def test_relation() -> None:
    columns = b"\x01id\0" + pack("!Ii", 20, -1) + b"\0nama\xc3\xa9\0" + pack("!Ii", 1043, 14)
    message = b"R" + OID + b"toko\0pesanan\0" + b"d" + pack("!H", 2) + columns
    assert decode(message) == Relation(16385, "toko", "pesanan", "d", ("id", "namaé"), (20, 1043))
    assert decode(b"R" + OID + b"\0pg_x\0f" + pack("!H", 0)) == Relation(16385, "pg_catalog", "pg_x", "f", (), ())


@pytest.mark.parametrize(
    ("message", "change"),
    [
        (b"I" + OID + b"N" + ROW, Insert(16385, (ONE, NULL, EMPTY))),
        (b"U" + OID + b"N" + ROW, Update(16385, None, (ONE, NULL, EMPTY))),
        (b"U" + OID + b"K" + KEY + b"N" + ROW, Update(16385, (ONE, NULL, NULL), (ONE, NULL, EMPTY))),
        (b"U" + OID + b"O" + ROW + b"N" + KEY, Update(16385, (ONE, NULL, EMPTY), (ONE, NULL, NULL), full=True)),
        (b"U" + OID + b"N" + pack("!H", 2) + BINARY_ONE + b"u", Update(16385, None, (ONE, None))),
        (b"D" + OID + b"K" + KEY, Delete(16385, (ONE, NULL, NULL))),
        (b"D" + OID + b"O" + ROW, Delete(16385, (ONE, NULL, EMPTY))),
    ],
)
def test_changes(message: bytes, change: Change) -> None:
    assert decode(message) == change


def test_truncate_of_several_tables() -> None:
    assert decode(b"T" + pack("!IBII", 2, 1, 7, 9)) == Truncate((7, 9))


def test_a_message_may_hold_any_byte() -> None:
    content = b'{"a": 1}\0\xff'
    message = b"M" + pack("!BQ", 1, 77) + b"alih.owner\0" + pack("!I", len(content)) + content
    assert decode(message) == Message(Lsn(77), "alih.owner", content)


@pytest.mark.parametrize("message", [b"O" + pack("!Q", 1) + b"origin\0", b"Y" + OID + b"public\0mood\0"])
def test_what_says_nothing_of_rows(message: bytes) -> None:
    assert decode(message) == Ignored()


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(NeedsOperator, match="unknown kind b'S'"):
        decode(b"S" + OID)


def test_a_column_sent_as_text_is_refused_without_its_value() -> None:
    with pytest.raises(NeedsOperator, match="sent as text") as refused:
        decode(b"I" + OID + b"N" + pack("!H", 1) + b"t" + pack("!i", 7) + b"rahasia")
    assert "rahasia" not in str(refused.value)
