"""Bytes of the pgoutput protocol (version 1, binary) to values; pure.

A cell keeps its length in front, so a row is forwarded into a binary COPY without being looked at.
https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
"""

from collections.abc import Callable
from struct import Struct

from alih.errors import NeedsOperator
from alih.model.change import (
    NULL,
    Begin,
    Cell,
    Commit,
    Delete,
    Ignored,
    Insert,
    LogMessage,
    Lsn,
    Message,
    Relation,
    Row,
    Truncate,
    Update,
)

_BEGIN = Struct("!QQI")
_COMMIT = Struct("!BQQQ")
_U32 = Struct("!I")
_U16 = Struct("!H")
_TRUNCATE = Struct("!IB")
_MESSAGE = Struct("!BQ")

_KIND_NULL, _KIND_UNCHANGED, _KIND_BINARY = b"nub"


def decode(data: bytes) -> LogMessage:
    """One message. Raises NeedsOperator for a kind or a column format that alih did not ask for."""
    reader = _READERS.get(data[:1])
    if reader is None:
        raise NeedsOperator(
            f"the server sent a pgoutput message of unknown kind {data[:1]!r}",
            remedy="alih speaks protocol version 1; check that the server is PostgreSQL 14 to 18",
        )
    return reader(data)


def _begin(data: bytes) -> Begin:
    lsn, committed_us, xid = _BEGIN.unpack_from(data, 1)
    return Begin(Lsn(lsn), committed_us, xid)


def _commit(data: bytes) -> Commit:
    _, lsn, end, _ = _COMMIT.unpack_from(data, 1)
    return Commit(Lsn(lsn), Lsn(end))


def _relation(data: bytes) -> Relation:
    (oid,) = _U32.unpack_from(data, 1)
    schema, at = _text(data, 5)
    name, at = _text(data, at)
    identity = chr(data[at])
    (count,) = _U16.unpack_from(data, at + 1)
    at += 3
    columns, types = [], []
    for _ in range(count):
        column, at = _text(data, at + 1)
        columns.append(column)
        types.append(_U32.unpack_from(data, at)[0])
        at += 8  # type oid, type modifier
    return Relation(oid, schema or "pg_catalog", name, identity, tuple(columns), tuple(types))


def _insert(data: bytes) -> Insert:
    (oid,) = _U32.unpack_from(data, 1)
    new, _ = row(data, 6)
    return Insert(oid, new)


def _update(data: bytes) -> Update:
    (oid,) = _U32.unpack_from(data, 1)
    if data[5:6] == b"N":
        new, _ = row(data, 6)
        return Update(oid, None, new)
    old, at = row(data, 6)
    new, _ = row(data, at + 1)
    return Update(oid, old, new, full=data[5:6] == b"O")


def _delete(data: bytes) -> Delete:
    (oid,) = _U32.unpack_from(data, 1)
    old, _ = row(data, 6)
    return Delete(oid, old)


def _truncate(data: bytes) -> Truncate:
    count, _ = _TRUNCATE.unpack_from(data, 1)
    return Truncate(tuple(_U32.unpack_from(data, 6 + 4 * i)[0] for i in range(count)))


def _message(data: bytes) -> Message:
    _, lsn = _MESSAGE.unpack_from(data, 1)
    prefix, at = _text(data, 10)
    (length,) = _U32.unpack_from(data, at)
    return Message(Lsn(lsn), prefix, data[at + 4 : at + 4 + length])


def _ignored(_: bytes) -> Ignored:
    return Ignored()


TUPLE_AT = 6
"""Where the row begins in an insert, in a delete, and in an update that has no old row."""


def sent_row(data: bytes) -> Row:
    """The one row of such a message."""
    cells, _ = row(data, TUPLE_AT)
    return cells


def row(data: bytes, at: int) -> tuple[Row, int]:
    """The TupleData at `at`, and where it ends."""
    (count,) = _U16.unpack_from(data, at)
    at += 2
    cells: list[Cell] = []
    for _ in range(count):
        kind = data[at]
        at += 1
        if kind == _KIND_BINARY:
            end = at + 4 + int.from_bytes(data[at : at + 4], "big")
            cells.append(data[at:end])
            at = end
        elif kind == _KIND_NULL:
            cells.append(NULL)
        elif kind == _KIND_UNCHANGED:
            cells.append(None)
        else:
            raise NeedsOperator(
                "a column was sent as text, for its type has no binary form",
                remedy="list the column under not_moved, or change its type; alih check names such columns",
            )
    return tuple(cells), at


def _text(data: bytes, at: int) -> tuple[str, int]:
    end = data.index(0, at)
    return data[at:end].decode(), end + 1


_READERS: dict[bytes, Callable[[bytes], LogMessage]] = {
    b"B": _begin,
    b"C": _commit,
    b"R": _relation,
    b"I": _insert,
    b"U": _update,
    b"D": _delete,
    b"T": _truncate,
    b"M": _message,
    b"O": _ignored,
    b"Y": _ignored,
}
