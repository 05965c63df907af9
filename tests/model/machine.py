"""A source, a target, a follower and workers, driven in any order; see `test_machine`."""

from collections.abc import Callable
from typing import ClassVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from alih.model.chunk import Done
from tests.model.engine import BeginAnewError, Bug, Follower, Worker
from tests.model.source import WRAP, Source, Transaction, cell
from tests.model.target import Target

KEYS = 5
WRITERS, WORKERS = 3, 2

FIRST_XIDS = st.sampled_from([700, WRAP - 2, 3 * WRAP - 3])
KEY = st.integers(0, KEYS - 1)
THEN = st.sampled_from(["go on", "go on", "commit", "commit, and be seen later"])


class Stitch(RuleBasedStateMachine):
    """Rules are what processes and databases do next; the invariant holds between any two of them."""

    bug: ClassVar[Bug] = Bug.NONE
    runs: ClassVar[int] = 0
    """Interleavings driven so far, by any machine of this process."""
    steps: ClassVar[int] = 0

    @initialize(
        first=FIRST_XIDS,
        full=st.booleans(),
        rows=st.sets(KEY),
        bounds=st.sets(st.integers(1, KEYS - 1), max_size=2),
        workers_first=st.booleans(),
    )
    def start(self, first: int, full: bool, rows: set[int], bounds: set[int], workers_first: bool) -> None:
        Stitch.runs += 1
        self.source = Source(first, full=full)
        for key in rows:
            self.source.start(key)
        self.target = Target(position=self.source.lsn)
        self.target.plan(sorted(bounds))
        self.looked_at = -1
        self.workers_first = workers_first
        self.writers: list[Transaction | None] = [None] * WRITERS
        self.workers: list[Worker | None] = [None] * WORKERS
        self.follower = self._new_follower(0)

    # --- the shop's writers -----------------------------------------------------------------------------------

    @rule(writer=st.integers(0, WRITERS - 1), key=KEY, to=KEY, how=st.integers(0, 5), large=st.booleans(), then=THEN)
    def write(self, writer: int, key: int, to: int, how: int, large: bool, then: str) -> None:
        """Change a row as its state allows; nothing, if somebody else holds it."""
        self._change(writer, key, to, how, large)
        if then != "go on":
            self._commit(writer, visible=then == "commit", gap=1)

    def _change(self, writer: int, key: int, to: int, how: int, large: bool) -> None:
        transaction = self.writers[writer] or self.source.begin()
        self.writers[writer] = transaction
        if not self.source.may_touch(transaction, key):
            return
        if self.source.row(transaction, key) is None:
            self.source.insert(transaction, key)
        elif how == 0:
            self.source.delete(transaction, key)
        elif how in (1, 2) and self._is_free(transaction, to):
            self.source.move(transaction, key, to, large=large)
        else:
            self.source.update(transaction, key, large=large)

    def _is_free(self, transaction: Transaction, key: int) -> bool:
        return self.source.may_touch(transaction, key) and self.source.row(transaction, key) is None

    @precondition(lambda self: any(self.writers))
    @rule(data=st.data(), visible=st.booleans(), gap=st.integers(0, 1))
    def commit(self, data: st.DataObject, visible: bool, gap: int) -> None:
        self._commit(self._busy_writer(data), visible=visible, gap=gap)

    @precondition(lambda self: any(self.writers))
    @rule(data=st.data())
    def roll_back(self, data: st.DataObject) -> None:
        writer = self._busy_writer(data)
        transaction, self.writers[writer] = self.writers[writer], None
        if transaction is not None:
            self.source.abort(transaction)

    def _busy_writer(self, data: st.DataObject) -> int:
        return data.draw(st.sampled_from([n for n, open_ in enumerate(self.writers) if open_]), "writer")

    def _commit(self, writer: int, *, visible: bool, gap: int) -> None:
        transaction, self.writers[writer] = self.writers[writer], None
        if transaction is not None:
            self.source.commit(transaction, visible=visible, gap=gap)

    @precondition(lambda self: self.source.away)
    @rule(data=st.data())
    def become_visible(self, data: st.DataObject) -> None:
        """A synchronous standby answers."""
        self.source.arrive(data.draw(st.sampled_from(self.source.away), "transaction"))

    # --- the follower -----------------------------------------------------------------------------------------

    @precondition(lambda self: self.follower.may_receive)
    @rule(many=st.integers(1, 8), commit=st.booleans())
    def receive(self, many: int, commit: bool) -> None:
        for _ in range(many):
            if self.follower.may_receive:
                self.follower.receive()
        if commit and self.follower.transaction is None:
            self.follower.commit()

    @precondition(lambda self: self.follower.batch)
    @rule()
    def write_a_part(self) -> None:
        self.follower.flush()

    @precondition(lambda self: self.follower.batch and not self.follower.transaction)
    @rule()
    def commit_the_batch(self) -> None:
        self.follower.commit()

    @precondition(lambda self: self.follower.dropped)
    @rule()
    def forget_what_is_visible(self) -> None:
        self.follower.forget_visible()

    @rule(again=st.integers(0, 3))
    def kill_the_follower(self, again: int) -> None:
        """Its batch is lost. The server may send again what it has not heard confirmed."""
        if self.bug is Bug.POSITION_BEFORE_ROWS:
            self.target.position = max(self.target.position, self.follower.position)
        self.follower = self._new_follower(again)

    def _new_follower(self, again: int) -> Follower:
        return Follower(self.source, self.target, self.bug, again)

    # --- the workers ------------------------------------------------------------------------------------------

    @property
    def _unlocked(self) -> bool:
        """A batch that is open holds the states of the chunks."""
        return self.follower.batch is None or self.bug is Bug.STATES_WITHOUT_A_LOCK

    @precondition(lambda self: self._unlocked and self.target.unfinished)
    @rule(worker=st.integers(0, WORKERS - 1), data=st.data(), steps=st.integers(0, 3))
    def claim(self, worker: int, data: st.DataObject, steps: int) -> None:
        """Who had it before is dead, or only thought to be. The first steps may come at once."""
        chunk = data.draw(st.sampled_from(self.target.unfinished), "chunk")
        self.workers[worker] = Worker(self.target, chunk, self.bug)
        for _ in range(steps):
            self.work(worker)

    @precondition(lambda self: any(self.workers))
    @rule(worker=st.integers(0, WORKERS - 1))
    def work(self, worker: int) -> None:
        held = self.workers[worker]
        if held is not None and not held.is_zombie:
            self._ended_by(worker, lambda: held.step(self.source))

    @precondition(lambda self: self._unlocked and any(held and held.may_merge for held in self.workers))
    @rule(worker=st.integers(0, WORKERS - 1))
    def merge(self, worker: int) -> None:
        held = self.workers[worker]
        if held is not None and held.may_merge:
            self._ended_by(worker, held.merge)
            self.workers[worker] = None

    def _ended_by(self, worker: int, step: Callable[[], object]) -> None:
        try:
            step()
        except BeginAnewError:
            self.workers[worker] = None

    # --- what has to hold -------------------------------------------------------------------------------------

    @invariant()
    def the_target_is_where_its_position_says(self) -> None:
        """In a chunk that is done each row is as of the position, or of S where that is later; elsewhere is none."""
        Stitch.steps += 1
        if self.target.commits == self.looked_at:
            return
        self.looked_at = self.target.commits
        chunks = self.target.read_chunks()
        for key in range(KEYS):
            state = chunks.of((cell(key), None, None)).state
            done = isinstance(state, Done)
            expected = self.source.at(self.target.position, state.snapshot, key) if isinstance(state, Done) else None
            assert self.target.rows.get(key) == expected, f"row {key}, {'done' if done else 'not done'}"

    def teardown(self) -> None:
        """Everybody comes to an end, and the target is the source."""
        if not hasattr(self, "source"):
            return
        for transaction in filter(None, self.writers):
            self.source.commit(transaction, visible=True, gap=0)
        for transaction in list(self.source.away):
            self.source.arrive(transaction)
        if not self.workers_first:
            self._drain()
        while self.target.unfinished or self.follower.may_receive:
            self._work()
            self._drain()
        assert self.target.rows == self.source.visible
        assert self.target.spool == []

    def _drain(self) -> None:
        while self.follower.may_receive:
            self.follower.receive()
        self.follower.commit()

    def _work(self) -> None:
        """A batch at hand ends first, for it holds the states."""
        while self.follower.transaction is not None:
            self.follower.receive()
        self.follower.commit()
        for chunk in self.target.unfinished:
            worker = Worker(self.target, chunk, self.bug)
            while not worker.may_merge:
                worker.step(self.source)
            assert worker.merge()
