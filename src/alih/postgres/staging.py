"""Folded changes of one entity as binary COPY rows of its staging table, and how many there are of each kind.

This is where every row passes, so most are turned over by one regular expression per entity: a row of pgoutput is the
same cells as a row of binary COPY with a letter before each. Whatever it does not match (a value of 100 bytes or more,
a large value that did not arrive) is read cell by cell.
"""

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import islice
from struct import Struct, pack

from alih.model.change import NULL, Row
from alih.model.compaction import Folded, Key, Kind, RowChange, Segment
from alih.model.projection import ReadColumn
from alih.postgres.pgoutput import TUPLE_AT

_HEADER = b"PGCOPY\n\xff\r\n\0" + pack("!II", 0, 0)
_TRAILER = pack("!h", -1)
_ROWS = 1_000  # in a block
_SHORT = 100
_XID = Struct("!iq")
_INSERT, _UPDATE, _DELETE = Kind.INSERT, Kind.UPDATE, Kind.DELETE
_AS_SENT = (_INSERT, _UPDATE)

WIDTHS = {
    **dict.fromkeys(("boolean", '"char"'), 1),
    "smallint": 2,
    **dict.fromkeys(("integer", "real", "date", "oid"), 4),
    **dict.fromkeys(("bigint", "double precision", "time without time zone"), 8),
    **dict.fromkeys(("timestamp without time zone", "timestamp with time zone"), 8),
    "uuid": 16,
}
"""Bytes of the types that always have as many."""


class Counts(Counter[tuple[Kind, str]]):
    """Rows by kind and by the columns that did not arrive."""


class Staging:
    """How the rows of one entity are staged."""

    def __init__(self, columns: Sequence[ReadColumn]) -> None:
        self._key_places = tuple(place for place, column in enumerate(columns) if column.key)
        self._width = len(columns)
        self._match = pattern(columns).fullmatch
        self._of_insert, self._of_update = self._head(Kind.INSERT), self._head(Kind.UPDATE)
        # a delete has its key and nothing else, which needs no reading where the key's columns come first
        key_leads = self._key_places == tuple(range(len(self._key_places)))
        self._of_delete = self._head(Kind.DELETE) if key_leads else None
        self._rest = NULL * (len(columns) - len(self._key_places))

    def blocks(self, segment: Segment, entity: str, counts: Counts) -> Iterator[bytes]:
        """What to COPY; `counts` is right when the last block is taken."""
        changes = iter(segment.folded(entity).items())
        yield _HEADER
        while part := list(islice(changes, _ROWS)):
            yield b"".join(self._rows(segment, part, counts))
        yield _TRAILER

    def _rows(self, segment: Segment, part: Sequence[tuple[Key, Folded]], counts: Counts) -> list[bytes]:
        rows: list[bytes] = []
        match, of_insert, of_update, of_delete = self._match, self._of_insert, self._of_update, self._of_delete
        inserted = updated = deleted = 0
        last, transaction = -1, b""
        for key, folded in part:
            kind, row, xid, _ = folded
            if xid != last:
                last, transaction = xid, _XID.pack(8, xid)
            if kind is _DELETE and of_delete is not None:
                deleted += 1
                rows += (of_delete, transaction, key, self._rest)
            elif kind in _AS_SENT and row.__class__ is bytes and (found := match(row)) is not None:
                inserted += kind is _INSERT
                updated += kind is _UPDATE
                rows += (of_insert if kind is _INSERT else of_update, transaction, *found.groups(NULL))
            else:
                rows += self._slowly(segment.read(folded), transaction, counts)
        counts[_INSERT, ""] += inserted
        counts[_UPDATE, ""] += updated
        counts[_DELETE, ""] += deleted
        return rows

    def _slowly(self, change: RowChange, transaction: bytes, counts: Counts) -> Iterator[bytes]:
        mask = _mask(change.missing)
        counts[change.kind, mask] += 1
        yield self._head(change.kind, mask, change.old)
        yield transaction
        yield from (NULL if cell is None else cell for cell in change.row)

    def _head(self, kind: Kind, mask: str = "", old: Row | None = None) -> bytes:
        """What stands before the transaction and the row."""
        former = [old[place] or NULL if old else NULL for place in self._key_places]
        fields = pack("!h", 3 + len(former) + self._width)
        return fields + _text(kind.value) + _text(mask) + b"".join(former)


def _text(word: str) -> bytes:
    return pack("!i", len(word)) + word.encode()


def _mask(missing: frozenset[int]) -> str:
    """The columns that did not arrive, as a word: rows lacking the same columns are updated together."""
    return ",".join(map(str, sorted(missing)))


def pattern(columns: Sequence[ReadColumn]) -> re.Pattern[bytes]:
    """An insert, or an update without an old row, whose cells are the groups; a NULL is a group that took no part."""
    short = b"|".join(re.escape(bytes([length])) + b".{%d}" % length for length in range(_SHORT))
    any_width = b"b(\0\0\0(?:%s))|n" % short
    cells = [
        b"b(\0\0\0%s.{%d})|n" % (re.escape(bytes([w])), w) if (w := WIDTHS.get(c.wire)) else any_width for c in columns
    ]
    return re.compile(b".{%d}" % (TUPLE_AT + 2) + b"".join(b"(?:%s)" % cell for cell in cells), re.DOTALL)
