"""A primary as the stitch sees it: rows, transactions that are open side by side, and the log of what committed.

Modelled as PostgreSQL does it: a row stays locked until its transaction is *visible*; a transaction is in the log from
its commit on, and visible only later while a synchronous standby is away; a snapshot lists what is not visible.
"""

from dataclasses import dataclass, field
from itertools import count
from struct import pack

from alih.model.change import NULL, Begin, Change, Commit, Delete, Insert, LogMessage, Lsn, Row, Update
from alih.model.chunk import Snapshot

Key = int
WRAP = 1 << 32
KEY_PLACES = (0,)
RELATION = 1
_FIRST_NORMAL = 3  # the ids 0 to 2 are never given to a transaction, also after a wrap


def cell(number: int) -> bytes:
    """An integer as binary COPY writes it."""
    return pack("!ii", 4, number)


def key_of(row: Row) -> Key:
    assert row[0] is not None
    return int.from_bytes(row[0][4:], "big")


@dataclass(eq=False, slots=True)
class Transaction:
    """`xid` is 64 bits wide; `effects` are the rows as it leaves them (None: gone)."""

    xid: int
    effects: dict[Key, Row | None] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Logged:
    """A committed transaction in the log; its commit record lies between the two positions."""

    transaction: Transaction
    commit_lsn: Lsn
    end_lsn: Lsn

    def messages(self) -> list[LogMessage]:
        begin = Begin(self.commit_lsn, 0, self.transaction.xid % WRAP)
        return [begin, *self.transaction.changes, Commit(self.commit_lsn, self.end_lsn)]


class Source:
    """One table of rows (key, value, large value). `full`: its replica identity."""

    def __init__(self, first_xid: int, *, full: bool) -> None:
        self.full = full
        self.visible: dict[Key, Row] = {}
        self.first: dict[Key, Row] = {}
        self.log: list[Logged] = []
        self.lsn = Lsn(1000)
        self.away: list[Transaction] = []  # committed, in the log, and not visible yet
        self._locks: dict[Key, Transaction] = {}
        self._open: list[Transaction] = []
        self._next_xid = first_xid
        self._seen_xid = first_xid - 1
        self._values = count(1)

    def start(self, key: Key) -> None:
        """A row that was there before the slot."""
        self.visible[key] = self.first[key] = self._row(key, next(self._values), next(self._values))

    # --- transactions -----------------------------------------------------------------------------------------

    def begin(self) -> Transaction:
        transaction = Transaction(self._next_xid)
        self._open.append(transaction)
        self._next_xid += 1
        while self._next_xid % WRAP < _FIRST_NORMAL:
            self._next_xid += 1
        return transaction

    def may_touch(self, transaction: Transaction, key: Key) -> bool:
        return self._locks.get(key, transaction) is transaction

    def row(self, transaction: Transaction, key: Key) -> Row | None:
        return transaction.effects[key] if key in transaction.effects else self.visible.get(key)

    def insert(self, transaction: Transaction, key: Key) -> None:
        new = self._row(key, next(self._values), next(self._values))
        self._do(transaction, Insert(RELATION, new), {key: new})

    def update(self, transaction: Transaction, key: Key, *, large: bool) -> None:
        """`large`: the large value changes as well; else the log leaves it out."""
        old = self._there(transaction, key)
        new = self._changed(old, key, large=large)
        change = Update(RELATION, old if self.full else None, new if large else (*new[:2], None), full=self.full)
        self._do(transaction, change, {key: new})

    def move(self, transaction: Transaction, key: Key, to: Key, *, large: bool) -> None:
        old = self._there(transaction, key)
        new = self._changed(old, to, large=large)
        before = old if self.full else (old[0], NULL, NULL)
        change = Update(RELATION, before, new if large else (*new[:2], None), full=self.full)
        self._do(transaction, change, {key: None, to: new})

    def delete(self, transaction: Transaction, key: Key) -> None:
        old = self._there(transaction, key)
        self._do(transaction, Delete(RELATION, old if self.full else (old[0], NULL, NULL)), {key: None})

    def commit(self, transaction: Transaction, *, visible: bool, gap: int) -> None:
        """Into the log, `gap` bytes of others' records behind the last commit: with none, the next transaction's
        commit begins where this one's ends."""
        self._open.remove(transaction)
        start = Lsn(self.lsn + gap)
        self.lsn = Lsn(start + 1)
        self.log.append(Logged(transaction, start, self.lsn))
        self.away.append(transaction)
        if visible:
            self.arrive(transaction)

    def abort(self, transaction: Transaction) -> None:
        self._open.remove(transaction)
        self._end(transaction)

    def arrive(self, transaction: Transaction) -> None:
        """The standby has answered: what is committed becomes visible."""
        self.away.remove(transaction)
        for key, row in transaction.effects.items():
            if row is None:
                self.visible.pop(key, None)
            else:
                self.visible[key] = row
        self._end(transaction)

    def snapshot(self) -> Snapshot:
        xmax = self._seen_xid + 1
        running = frozenset(t.xid for t in (*self._open, *self.away) if t.xid < xmax)
        return Snapshot(min(running, default=xmax), xmax, running)

    def at(self, position: Lsn, snapshot: Snapshot | None, key: Key) -> Row | None:
        """The row as of all transactions that ended up to `position` or are visible in `snapshot`."""
        row = self.first.get(key)
        for logged in self.log:
            reached = logged.end_lsn <= position
            if key in logged.transaction.effects and (reached or _visible(snapshot, logged.transaction.xid)):
                row = logged.transaction.effects[key]
        return row

    # --- parts ------------------------------------------------------------------------------------------------

    def _row(self, key: Key, value: int, large: int) -> Row:
        return (cell(key), cell(value), cell(large))

    def _changed(self, old: Row, key: Key, *, large: bool) -> Row:
        return (cell(key), cell(next(self._values)), cell(next(self._values)) if large else old[2])

    def _there(self, transaction: Transaction, key: Key) -> Row:
        row = self.row(transaction, key)
        assert row is not None
        return row

    def _do(self, transaction: Transaction, change: Change, effects: dict[Key, Row | None]) -> None:
        transaction.changes.append(change)
        for key, row in effects.items():
            assert self.may_touch(transaction, key)
            self._locks[key] = transaction
            transaction.effects[key] = row

    def _end(self, transaction: Transaction) -> None:
        self._seen_xid = max(self._seen_xid, transaction.xid)
        self._locks = {key: holder for key, holder in self._locks.items() if holder is not transaction}


def _visible(snapshot: Snapshot | None, xid: int) -> bool:
    """By the 64-bit id, and so without what is to be tested."""
    if snapshot is None:
        return False
    return xid < snapshot.xmin or (xid < snapshot.xmax and xid not in snapshot.running)
