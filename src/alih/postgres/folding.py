"""Folding the log as it comes, when every change of it is to be applied: the follower's hot path.

What is folded here has its place in a batch before the batch has begun, while the one before is being written. The
rules are those of `alih.model.compaction`; rows are kept as they were sent. Whatever needs a second look (a message
that is no row, a change of key) is left to the caller, message by message.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from struct import Struct

from alih.model.change import Delete, Insert, Lsn, Update
from alih.model.compaction import Folded, Key, Kind, Segment, moves_key
from alih.model.projection import ReadColumn
from alih.postgres.pgoutput import TUPLE_AT, decode, sent_row
from alih.postgres.staging import WIDTHS, pattern

SOFT_FULL = 5_000
"""Messages after which a batch ends with the transaction at hand."""
FULL = 20_000
"""Messages after which a part of a transaction is written before the rest is read."""

_BEGIN = Struct("!QQI")
_COMMIT = Struct("!BQQ")
_OWN = b"alih.own\0"
_INSERT, _UPDATE, _DELETE = Kind.INSERT, Kind.UPDATE, Kind.DELETE
_B, _C, _I, _U, _D, _M, _N, _K, _O = b"BCIUDMNKO"
_ROWS = b"IUD"


class Table:
    """A relation of the log as the contract knows it."""

    __slots__ = ("complete", "entity", "key", "key_places", "name")

    def __init__(self, entity: str, columns: Sequence[ReadColumn], name: str) -> None:
        self.entity = entity
        self.name = name
        self.key_places = tuple(place for place, column in enumerate(columns) if column.key)
        self.key = _key_of(columns, self.key_places)
        """The key of a message with one row; empty if it has to be looked for in another way."""
        self.complete = pattern(columns).fullmatch
        """Of such a message: says of most rows in which nothing is left out that it is so."""


def _key_of(columns: Sequence[ReadColumn], places: tuple[int, ...]) -> Callable[[bytes], Key]:
    width = WIDTHS.get(columns[0].wire)
    if places == (0,) and width is not None:
        first = TUPLE_AT + 3  # behind the number of columns and the letter of the first
        return itemgetter(slice(first, first + 4 + width))
    return lambda data: _key(data, places)


def _key(data: bytes, places: tuple[int, ...]) -> Key:
    row = sent_row(data)
    cells = [row[place] for place in places]
    return b"" if None in cells else b"".join(cell or b"" for cell in cells)


@dataclass(slots=True)
class Transaction:
    """The transaction of the log that is being read; `own`: alih wrote it. `skipped`: that, or applied before."""

    commit_lsn: Lsn
    committed_us: int
    xid: int
    skipped: bool
    own: bool = False


@dataclass(slots=True)
class Ahead:
    """What is folded of the log and not handed over yet, and the messages, for the case that they have to be looked at
    one by one after all."""

    start: tuple[Lsn, Transaction | None] = (Lsn(0), None)
    """The end of the last transaction before, and the one of which the first message is a part, if any."""
    segment: Segment = field(default_factory=lambda: Segment(sent_row))
    messages: list[bytes] = field(default_factory=list)
    first: Lsn | None = None
    """Where the first transaction commits of which something is in here."""

    @property
    def room(self) -> int:
        return FULL - len(self.messages)


class Folding:
    """Reads one stream's messages; `position` is the end of the last transaction that was read to its end."""

    def __init__(self, position: Lsn) -> None:
        self.position = position
        self.committed_us = 0
        self.transaction: Transaction | None = None
        self.tables: dict[bytes, Table] = {}
        self.ahead = Ahead()
        self._rows: dict[bytes, tuple[dict[Key, Folded], Table]] = {}

    def take_ahead(self) -> Ahead:
        """What is folded, and begin anew."""
        ahead, self.ahead, self._rows = self.ahead, Ahead(), {}
        return ahead

    @property
    def full(self) -> bool:
        """Whether what is folded should be handed over before more is."""
        return len(self.ahead.messages) >= (SOFT_FULL if self.transaction is None else FULL)

    @property
    def reached(self) -> Lsn:
        """Where in the log the changes at hand end: the commit of the transaction that is being read, if any."""
        return self.transaction.commit_lsn if self.transaction else self.position

    def back(self, ahead: Ahead) -> None:
        """Go back to before the messages of `ahead`, which are going to be read anew."""
        self.position, self.transaction = ahead.start

    def describe(self, relation: int, table: Table | None) -> None:
        """The rows of `relation` that follow are this table's, or nobody's."""
        number = relation.to_bytes(4, "big")
        self._rows.pop(number, None)
        self.tables.pop(number, None)
        if table is not None:
            self.tables[number] = table

    def table(self, relation: int) -> Table | None:
        """The table whose rows those of `relation` are; None for one that is not the stream's."""
        return self.tables.get(relation.to_bytes(4, "big"))

    def begin(self, data: bytes) -> None:
        commit_lsn, committed_us, xid = _BEGIN.unpack_from(data, 1)
        self.transaction = Transaction(Lsn(commit_lsn), committed_us, xid, commit_lsn < self.position)

    def end(self, data: bytes) -> None:
        """The transaction at hand has been read to its end."""
        if self.transaction is not None:
            self.committed_us = self.transaction.committed_us
        self.transaction = None
        self.position = Lsn(_COMMIT.unpack_from(data, 1)[2])

    def fold(self, messages: Sequence[bytes], at: int) -> int:
        """Fold from message `at` on. Returns the place of the first message that is not folded: it needs a second look,
        or the batch is full there, or there is none."""
        if not self.ahead.messages:
            self.ahead.start = (self.position, self.transaction)
        end = min(len(messages), at + self.ahead.room)
        soft = at + SOFT_FULL - len(self.ahead.messages)
        stopped = self._fold(messages, at, end, soft)
        self.ahead.messages += messages[at:stopped]
        return stopped

    def _fold(self, messages: Sequence[bytes], at: int, end: int, soft: int) -> int:
        transaction, change = self.transaction, self._change
        for number in range(at, end):
            data = messages[number]
            kind = data[0]
            if kind in _ROWS:
                if transaction is None or not (transaction.skipped or change(kind, data, transaction)):
                    return number
            elif kind == _B:
                self.begin(data)
                transaction = self.transaction
            elif kind == _C:
                self.end(data)
                transaction = None
                if number >= soft:
                    return number + 1
            elif kind == _M and transaction is not None and data.startswith(_OWN, 10):
                transaction.own = transaction.skipped = True
            else:
                return number
        return end

    def _change(self, kind: int, data: bytes, transaction: Transaction) -> bool:
        """Fold one change as it was sent; false if it needs a second look."""
        found = self._rows.get(data[1:5]) or self._table(data[1:5], transaction)
        if found is None:
            return False
        rows, table = found
        before = data[5]
        key = b"" if before == _O else table.key(data)
        prior = rows.get(key)
        if kind == _I and prior is None:
            rows[key] = (_INSERT, data, transaction.xid, None)
        elif kind == _U and before == _N and key and (prior is None or _covers(prior, data, table)):
            rows[key] = (_UPDATE if prior is None else _after_update(prior[0]), data, transaction.xid, None)
        elif kind == _D and before == _K and prior is None:
            rows[key] = (_DELETE, data, transaction.xid, None)
        else:
            return self._second(table, data, transaction.xid)
        return True

    def _second(self, table: Table, data: bytes, xid: int) -> bool:
        change = decode(data)
        if not isinstance(change, Insert | Update | Delete) or moves_key(change, table.key_places):
            return False
        self.ahead.segment.fold(table.entity, table.key_places, change, xid)
        return True

    def _table(self, relation: bytes, transaction: Transaction) -> tuple[dict[Key, Folded], Table] | None:
        """The table of a relation and its rows in the segment at hand."""
        if self.ahead.first is None:
            self.ahead.first = transaction.commit_lsn
        table = self.tables.get(relation)
        if table is not None:
            self._rows[relation] = (self.ahead.segment.table(table.entity), table)
        return self._rows.get(relation)


def _covers(prior: Folded, data: bytes, table: Table) -> bool:
    """Whether an update says all that there is to say of a row that was changed before, and may follow."""
    return prior[0] is not _DELETE and (b"u" not in data or table.complete(data) is not None)


def _after_update(kind: Kind) -> Kind:
    """What a row is after an update that is complete."""
    return kind if kind is Kind.INSERT or kind is Kind.REPLACE else _UPDATE
