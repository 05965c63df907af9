"""The follower and the workers of the model: what a process holds in memory, and dies with.

The deciding is the real code's (`alih.model.stitching`, `alih.model.chunk`, `alih.model.compaction`); the order of
steps is that of `alih.postgres.follower`, `copying` and `replaying`. `Bug` plants what must be found.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from alih.model.change import Begin, Change, Commit, Delete, Insert, LogMessage, Lsn, Row, Update
from alih.model.chunk import Done, Snapshot, Spooling
from alih.model.compaction import Segment, moved, moves_key
from alih.model.stitching import Chunk, EntityChunks, Forget, Keep, Part, Reread, Write, one_row, route
from tests.model.source import KEY_PLACES, Source, cell
from tests.model.target import ENTITY, Rows, Spooled, Target, write


class Bug(Enum):
    """A mistake in the order of steps; those in the deciding are planted in the real code."""

    NONE = auto()
    SNAPSHOT_TOO_EARLY = auto()  # taken while a dropped transaction is not visible
    DROPPED_ASKED_AFTER_THE_SNAPSHOT = auto()  # what became visible in between has been forgotten
    ZOMBIE_MERGES = auto()
    POSITION_BEFORE_ROWS = auto()
    STATES_WITHOUT_A_LOCK = auto()
    SPOOL_NOT_JUDGED = auto()  # replayed with what the snapshot saw
    SKIPPED_BY_COMMIT_END = auto()  # a commit that begins where the last one ended is thought to be an old one
    DROPS_OF_A_MERGE_LOST = auto()  # what a replay drops, for a row becomes a chunk of its own, is not remembered


class BeginAnewError(Exception):
    """The row that is a chunk of its own arrived once more, and again not whole: another snapshot is needed."""


@dataclass(slots=True)
class Batch:
    """A transaction of the target that is open: what it has read, and what it will leave."""

    before: Rows
    rows: Rows
    segment: Segment = field(default_factory=Segment)
    spooled: list[Spooled] = field(default_factory=list)
    reread: list[Row] = field(default_factory=list)


class Follower:
    """Begins where the committed position says; the server may begin up to `again` transactions earlier."""

    def __init__(self, source: Source, target: Target, bug: Bug, again: int) -> None:
        self._source = source
        self._target = target
        self._bug = bug
        self.position = target.position
        self.dropped = set(target.dropped)
        self.batch: Batch | None = None
        self.transaction: Begin | None = None
        self._chunks = target.read_chunks()
        self._version: int | None = None
        reached = sum(logged.end_lsn <= target.position for logged in source.log)
        self._next = max(0, reached - again)
        self._messages: list[LogMessage] = []

    @property
    def may_receive(self) -> bool:
        return bool(self._messages) or self._next < len(self._source.log)

    def receive(self) -> None:
        if not self._messages:
            self._messages = self._source.log[self._next].messages()
            self._next += 1
        message = self._messages.pop(0)
        match message:
            case Begin():
                self.transaction = message
            case Commit():
                self.transaction = None
                self.position = max(self.position, message.end_lsn)
            case Insert() | Update() | Delete():
                self._take(message)
            case _:
                raise AssertionError(message)

    def _take(self, change: Change) -> None:
        assert self.transaction is not None
        if self._delivered_before(self.transaction.commit_lsn):
            return
        batch = self._open_batch()
        if self._chunks.settled(self.transaction.commit_lsn):
            self._apply(batch, change, self.transaction.xid)
            return
        for part in route(self._chunks, change, self.transaction.xid):
            self._stitch(batch, part, self.transaction.xid, change)

    def _delivered_before(self, commit: Lsn) -> bool:
        return commit <= self.position if self._bug is Bug.SKIPPED_BY_COMMIT_END else commit < self.position

    def _open_batch(self) -> Batch:
        if self.batch is None:
            if self._target.version != self._version:
                self._read_chunks()
            self.batch = Batch(dict(self._target.rows), dict(self._target.rows))
        return self.batch

    def _read_chunks(self) -> None:
        self._chunks, self._version = self._target.read_chunks(), self._target.version
        if self._chunks.done:
            self.dropped.clear()
        else:
            self.dropped |= self._target.dropped

    def _stitch(self, batch: Batch, part: Part, xid: int, change: Change) -> None:
        match part:
            case Write(written):
                self._apply(batch, written, xid)
            case Keep(chunk):
                batch.spooled.append(Spooled(chunk, xid, change))
            case Forget(remember):
                if remember:
                    self.dropped.add(xid)
            case Reread(key):
                batch.reread.append(key)
                self._chunks.add_row(one_row(-len(batch.reread), key))
                self.dropped.add(xid)

    def _apply(self, batch: Batch, change: Change, xid: int) -> None:
        if isinstance(change, Update) and moves_key(change, KEY_PLACES):
            self.flush()
            write(moved(ENTITY, KEY_PLACES, change, xid), batch.rows)
        else:
            batch.segment.fold(ENTITY, KEY_PLACES, change, xid)

    def flush(self) -> None:
        """Write what is folded: a part of a batch too large for one."""
        if self.batch is not None:
            write(self.batch.segment, self.batch.rows)
            self.batch.segment = Segment()

    def commit(self) -> None:
        """Rows, spool, position and what was dropped: one transaction."""
        assert self.transaction is None
        self.flush()
        batch, self.batch = self.batch, None
        if batch is None:
            return
        _store(batch, self._target)
        if batch.reread:
            self._version = None
        self._target.position = self.position
        self._target.dropped = frozenset(self.dropped)
        self._target.commits += 1

    def forget_visible(self) -> None:
        snapshot = self._source.snapshot()
        self.dropped = {xid for xid in self.dropped if not snapshot.sees(xid)}


def _store(batch: Batch, target: Target) -> None:
    """What the batch has changed, and nothing that others have."""
    for key in {*batch.before, *batch.rows}:
        if key not in batch.rows:
            target.rows.pop(key, None)
        elif batch.rows[key] != batch.before.get(key):
            target.rows[key] = batch.rows[key]
    target.spool += batch.spooled
    for key_of_row in batch.reread:
        target.add_row(key_of_row)


class Worker:
    """Copies one chunk; its rows are seen by nobody before it merges."""

    def __init__(self, target: Target, number: int, bug: Bug) -> None:
        self._target = target
        self._bug = bug
        self._of_entity = target.read_chunks()
        self.chunk: Chunk = target.chunks[number]
        self._attempt = target.claim(number)
        self._asked: frozenset[int] | None = None
        self._snapshot: Snapshot | None = None
        self._settled = Lsn(0)
        self._rows: Rows = {}
        self._replay: Replay | None = None

    @property
    def is_zombie(self) -> bool:
        """Another worker has begun the chunk anew: it was thought to be dead."""
        return self._target.chunks[self.chunk.id].state != Spooling(self._attempt)

    @property
    def may_merge(self) -> bool:
        return self._replay is not None

    def step(self, source: Source) -> None:
        """Ask what was dropped; take S, which must see it, with the rows that S sees; replay what is there already."""
        late = self._bug is Bug.DROPPED_ASKED_AFTER_THE_SNAPSHOT
        if self._replay is not None:
            self._replay.run(self._target.spool)
        elif self._asked is None and not (late and self._snapshot is None):
            self._asked = self._target.dropped
        elif self._snapshot is None:
            self._take_snapshot(source)
        if self._asked is not None and self._snapshot is not None and self._replay is None:
            self._judge(self._snapshot, self._asked)

    def _take_snapshot(self, source: Source) -> None:
        self._snapshot, self._settled = source.snapshot(), source.lsn
        self._rows = {key: row for key, row in source.visible.items() if self._owns(key)}

    def _judge(self, snapshot: Snapshot, asked: frozenset[int]) -> None:
        if self._bug is not Bug.SNAPSHOT_TOO_EARLY and not snapshot.sees_all(asked):
            self._asked = self._snapshot = None
            return
        seen = self._of_entity.as_seen_by(self.chunk.id, Done(snapshot))
        if self._bug is Bug.SPOOL_NOT_JUDGED:
            seen = self._of_entity.as_seen_by(self.chunk.id, Done(Snapshot(0, 0, frozenset())))
        self._replay = Replay(self.chunk, seen, self._rows)

    def _owns(self, key: int) -> bool:
        return self._of_entity.of((cell(key), None, None)).id == self.chunk.id

    def merge(self) -> bool:
        """The rows, the spool minus what S saw, the mark: one transaction. False for a worker whose turn it is
        no longer."""
        replay, snapshot, target = self._replay, self._snapshot, self._target
        assert replay is not None
        assert snapshot is not None
        if self.is_zombie and self._bug is not Bug.ZOMBIE_MERGES:
            return False
        replay.run(target.spool)
        for key, row in replay.rows.items():
            assert key not in target.rows, "a row is copied twice"
            target.rows[key] = row
        target.spool = [spooled for spooled in target.spool if spooled.chunk != self.chunk.id]
        target.turn(self.chunk.id, Done(snapshot), self._settled)
        for reread in replay.reread:
            target.add_row(reread)
        if self._bug is not Bug.DROPS_OF_A_MERGE_LOST:
            target.dropped |= replay.dropped
        target.commits += 1
        return True


class Replay:
    """One chunk's spool on the rows that were copied with it."""

    def __init__(self, chunk: Chunk, seen: EntityChunks, rows: Rows) -> None:
        self._chunk = chunk
        self._seen = seen
        self._segment = Segment()
        self._done = 0
        self.rows = rows
        self.reread: list[Row] = []
        self.dropped: set[int] = set()

    def run(self, spool: Sequence[Spooled]) -> None:
        mine = [spooled for spooled in spool if spooled.chunk == self._chunk.id]
        for spooled in mine[self._done :]:
            for part in route(self._seen, spooled.change, spooled.xid):
                self._take(part, spooled.xid)
        self._done = len(mine)
        self._flush()

    def _take(self, part: Part, xid: int) -> None:
        match part:
            case Write(change):
                self._write(change, xid)
            case Reread(key) if key == self._chunk.row_key:
                raise BeginAnewError
            case Reread(key):
                self._seen.add_row(one_row(0, key))
                self.reread.append(key)
                self.dropped.add(xid)
            case Forget(remember):
                if remember:
                    self.dropped.add(xid)
            case Keep():
                raise AssertionError("nothing is spooled twice")

    def _write(self, change: Change, xid: int) -> None:
        if isinstance(change, Update) and moves_key(change, KEY_PLACES):
            self._flush()
            write(moved(ENTITY, KEY_PLACES, change, xid), self.rows)
        else:
            self._segment.fold(ENTITY, KEY_PLACES, change, xid)

    def _flush(self) -> None:
        segment, self._segment = self._segment, Segment()
        write(segment, self.rows)
