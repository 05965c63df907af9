"""The log in a real control database: entries stay with their effects, numbers have no gaps, nothing is lost."""

import asyncio
import json
import random
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest

import alih_verify
from alih.errors import Corrupt, Refused
from alih.evidence.bundle import Bundle
from alih.evidence.entry import Entry
from alih.evidence.note import Checkpoint, SigningKey
from alih.model.phase import (
    Aborting,
    CaughtUp,
    Copying,
    Drained,
    Fenced,
    Flipped,
    Following,
    Holding,
    Tracked,
    Verified,
)
from alih.model.side import Side
from alih.postgres import evidence
from alih.postgres.control import Control
from alih.postgres.line import Line
from alih.postgres.session import Connection, connect
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

KILLS, TOLD_EACH, SEED = 5, 40, 17


@pytest.fixture
async def line(control_database: str) -> AsyncIterator[Line]:
    async with Line(control_database, "the control database") as line:
        await Control(line).install()
        yield line


@pytest.fixture
async def control(line: Line) -> Control:
    control = Control(line)
    await control.admit({"17": "first"})
    return control


@pytest.fixture
async def connection(line: Line, control_database: str) -> AsyncIterator[Connection]:
    del line  # installs
    async with await connect(control_database, "the control database") as connection:
        yield connection


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return SigningKey.load_or_make(tmp_path / "evidence.key", "alih/tested")


def said(entry: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name not in {"n", "at"}}


def verified(bundle: str, key: SigningKey, witness: str | None = None) -> alih_verify.Report:
    held = None if witness is None else witness.encode()
    return alih_verify.verify(bundle.encode(), alih_verify.Key.parse(key.vkey), held)


async def test_every_change_of_phase_is_an_entry(control: Control, connection: Connection) -> None:
    for phase in (Copying(), Following(), Verified("0/10"), Tracked(), Holding(1), Drained(1), Fenced(1, "0/20")):
        await control.enter("17", phase)
    await control.enter("17", CaughtUp(1, "0/20"))
    await control.settle("17", Side.TARGET, 1, Flipped(Side.TARGET, 1))
    entries = await evidence.entries(connection)
    assert [entry["n"] for entry in entries] == list(range(9))
    assert [(e["kind"], e["tenant"], e["phase"], e["epoch"], e["side"], e["cut"]) for e in entries] == [
        ("state", "17", "copying", None, "source", None),
        ("state", "17", "following", None, "source", None),
        ("state", "17", "verified", None, "source", None),
        ("state", "17", "tracked", None, "source", None),
        ("state", "17", "holding", 1, "source", None),
        ("state", "17", "drained", 1, "source", None),
        ("state", "17", "fenced", 1, "source", "0/20"),
        ("state", "17", "caughtup", 1, "source", "0/20"),
        ("state", "17", "flipped", 1, "target", None),
    ]
    journal = await (await connection.execute("SELECT phase FROM alih_control.journal ORDER BY id")).fetchall()
    assert [word for (word,) in journal] == [entry["phase"] for entry in entries]


async def test_an_effect_that_is_rolled_back_has_no_entry(control: Control, connection: Connection) -> None:
    with pytest.raises(Corrupt):
        await control.enter("17", Holding(1))
    with pytest.raises(Refused):
        await control.enter("18", Copying())
    async with connection.transaction(force_rollback=True):
        await evidence.outbox(connection, Entry("finding", {"what": "taken back"}))
    await control.enter("17", Copying())
    await control.enter("17", Following())
    await control.enter("17", Verified("0/10"))
    await control.enter("17", Tracked())
    await control.enter("17", Aborting(1))
    with pytest.raises(Corrupt, match="is at epoch 0 already"):
        await control.settle("17", Side.SOURCE, 0, Verified("0/10"))
    words = [entry["phase"] for entry in await evidence.entries(connection)]
    assert words == ["copying", "following", "verified", "tracked", "aborting"]


async def test_commands_and_answers_are_entries(control: Control, connection: Connection) -> None:
    moved = await control.ask("cutover", "first", by="budi")
    await control.answer(moved, 75, {"cohort": "first", "moved": 1, "aborted": {"9": "why", "12": "why"}})
    assert await control.answered(moved) == (75, {"cohort": "first", "moved": 1, "aborted": {"9": "why", "12": "why"}})
    await control.answer(await control.ask("dance", "all"), 64, {"error": "no", "remedy": "help"})
    await control.record(Entry("finding", {"source": "trial", "what": "late"}))
    assert [said(entry) for entry in await evidence.entries(connection)] == [
        {"kind": "approval", "command": "cutover", "argument": "first", "by": "budi"},
        {"kind": "answer", "command": "cutover", "argument": "first", "exit_code": 75, "moved": 1}
        | {"aborted": ["12", "9"]},
        {"kind": "approval", "command": "dance", "argument": "all", "by": "operator"},
        {"kind": "answer", "command": "dance", "argument": "all", "exit_code": 64, "moved": 0, "aborted": []},
        {"kind": "finding", "source": "trial", "what": "late"},
    ]


async def test_an_open_transaction_keeps_nobody_waiting(connection: Connection, control_database: str) -> None:
    async with await connect(control_database, "the control database") as slow:
        async with slow.transaction():
            await evidence.outbox(slow, Entry("effect", {"by": "slow"}))
            await evidence.outbox(connection, Entry("effect", {"by": "quick"}))
            assert [entry["by"] for entry in await evidence.entries(connection)] == ["quick"]
        entries = await evidence.entries(connection)
    assert [(entry["n"], entry["by"]) for entry in entries] == [(0, "quick"), (1, "slow")]
    assert entries[1]["at"] <= entries[0]["at"]  # its time is that of the effect, not of the number


async def test_many_sequencers_and_writers_at_once(
    connection: Connection, control_database: str, key: SigningKey
) -> None:
    writers, each = 4, 150
    async with AsyncExitStack() as stack:
        lines = [
            await stack.enter_async_context(await connect(control_database, "the control database"))
            for _ in range(writers + 3)
        ]

        async def write(writer: int) -> None:
            for number in range(each):
                await evidence.outbox(lines[writer], Entry("effect", {"writer": writer, "number": number}))

        async def number(one: Connection) -> int:
            moved = 0
            while await evidence.sequence(connection=one) or moved < writers * each:
                moved = Checkpoint.of(await evidence.checkpoint(one, key)).size
            return moved

        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            for writer in range(writers):
                tasks.create_task(write(writer))
            for one in lines[writers:]:
                tasks.create_task(number(one))
    entries = await evidence.entries(connection)
    assert [entry["n"] for entry in entries] == list(range(writers * each))
    for writer in range(writers):
        assert [entry["number"] for entry in entries if entry["writer"] == writer] == list(range(each))
    sizes = await (await connection.execute("SELECT size FROM alih_control.checkpoint ORDER BY id")).fetchall()
    assert sorted(set(sizes)) == sizes  # each grew
    assert verified(await evidence.bundle(connection, key), key).entries == writers * each


async def test_kill_9_loses_nothing(connection: Connection, control_database: str, tmp_path: Path) -> None:
    await connection.execute("CREATE TABLE effect (number bigint PRIMARY KEY)")
    path = tmp_path / "killed.key"
    told: list[int] = []
    notes = []
    dice = random.Random(SEED)
    for kill in range(KILLS):
        told += await killed(control_database, path, first=kill * 1_000_000, after=TOLD_EACH + dice.randrange(20))
        last = await (await connection.execute(LAST_NOTE)).fetchone()
        notes.append(last[0] if last else None)
    key = SigningKey.load_or_make(path, "alih/killed")
    done = [number for (number,) in await (await connection.execute("SELECT number FROM effect")).fetchall()]
    text = await evidence.bundle(connection, key)
    entries = Bundle.read(text).entries
    assert sorted(entry["number"] for entry in entries) == sorted(done)
    assert set(told) <= set(done)
    assert len(told) >= KILLS * TOLD_EACH
    assert [entry["n"] for entry in entries] == list(range(len(done)))
    assert await (await connection.execute("SELECT count(*) FROM alih_control.outbox")).fetchone() == (0,)
    for note in notes:  # what was signed before a kill still holds
        assert verified(text, key, note).opened == len(done)


LAST_NOTE = "SELECT note FROM alih_control.checkpoint ORDER BY id DESC LIMIT 1"


async def killed(dsn: str, key: Path, first: int, after: int) -> list[int]:
    """Run the busy process until it has told of so many effects; kill -9; what it told."""
    argv = [sys.executable, str(Path(__file__).with_name("busy.py")), dsn, str(key), str(first)]
    busy = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    assert busy.stdout is not None
    told = [int(await busy.stdout.readline()) for _ in range(after)]
    busy.send_signal(signal.SIGKILL)
    rest = (await busy.stdout.read()).split(b"\n")[:-1]
    assert await busy.wait() == -signal.SIGKILL
    return told + [int(number) for number in rest]


async def test_a_task_signs_what_comes(line: Line, connection: Connection, key: SigningKey) -> None:
    async def sizes() -> list[int]:
        rows = await (await connection.execute("SELECT size FROM alih_control.checkpoint ORDER BY id")).fetchall()
        return [size for (size,) in rows]

    async with asyncio.TaskGroup() as tasks:
        keeping = tasks.create_task(evidence.keep_sequenced(line, key))

        async def first_signed() -> bool:
            return await sizes() == [0]

        async def more_signed() -> bool:
            return (await sizes())[-1] == 3

        await until(first_signed)
        await evidence.outbox(connection, Entry("effect", {}))
        await connection.execute(  # the sequencer's connection is lost: it takes another
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )
        await evidence.outbox(connection, Entry("effect", {}))
        await evidence.outbox(connection, Entry("effect", {}))
        await until(more_signed)
        keeping.cancel()


async def test_a_checkpoint_is_made_when_the_tree_has_grown(
    connection: Connection, key: SigningKey, tmp_path: Path
) -> None:
    empty = await evidence.checkpoint(connection, key)
    assert await evidence.checkpoint(connection, key) == empty
    await evidence.outbox(connection, Entry("effect", {"number": 1}))
    assert await evidence.checkpoint(connection, key) == empty  # not numbered yet
    grown = await evidence.bundle(connection, key)
    assert [Checkpoint.of(note).size for note in (empty, Bundle.read(grown).checkpoint)] == [0, 1]
    assert await evidence.bundle(connection, key) == grown
    assert verified(grown, key, empty).entries == 1
    other = SigningKey.load_or_make(tmp_path / "other.key", "alih/tested")
    assert verified(await evidence.bundle(connection, other), other).entries == 1
    with pytest.raises(alih_verify.Rejected, match="not signed by the key"):
        verified(await evidence.bundle(connection, other), key)


async def test_what_is_kept_is_never_changed(connection: Connection, key: SigningKey) -> None:
    await evidence.outbox(connection, Entry("effect", {}))
    await evidence.bundle(connection, key)
    attempts: tuple[LiteralString, ...] = (
        "UPDATE alih_control.leaf SET content = 'x'",
        "DELETE FROM alih_control.leaf",
        "TRUNCATE alih_control.leaf CASCADE",
        "UPDATE alih_control.checkpoint SET size = 7",
        "DELETE FROM alih_control.checkpoint WHERE false",
        "TRUNCATE alih_control.checkpoint",
    )
    for attempt in attempts:
        with pytest.raises(psycopg.errors.IntegrityConstraintViolation, match="is never changed or deleted"):
            await connection.execute(attempt)


@pytest.mark.parametrize(
    ("forgery", "says"),
    [
        ("UPDATE alih_control.leaf SET content = convert_to('{}', 'UTF8') WHERE number = 1", "is not what was signed"),
        ("DELETE FROM alih_control.leaf WHERE number = 2", "is not what was signed"),
        ("UPDATE alih_control.checkpoint SET peaks = peaks[1:1]", "is not the one that was signed"),
    ],
)
async def test_what_was_changed_all_the_same_is_noticed(
    connection: Connection, key: SigningKey, forgery: LiteralString, says: str
) -> None:
    for number in range(3):
        await evidence.outbox(connection, Entry("effect", {"number": number}))
    await evidence.bundle(connection, key)
    await connection.execute("ALTER TABLE alih_control.leaf DISABLE TRIGGER kept")
    await connection.execute("ALTER TABLE alih_control.checkpoint DISABLE TRIGGER kept")
    await connection.execute(forgery)
    with pytest.raises(Corrupt, match=says):
        await evidence.bundle(connection, key)


async def test_a_secret_can_be_erased(connection: Connection, key: SigningKey) -> None:
    hostile = 'ORDER-\0\n"😀\u2028'
    await evidence.outbox(connection, Entry("audit", {"x": hostile}, {"s1": hostile, "s2": "ORDER-2"}))
    await evidence.outbox(connection, Entry("trial", {}, {"sale": hostile}))
    before = await evidence.bundle(connection, key)
    assert (verified(before, key).opened, verified(before, key).withheld) == (3, 0)
    shut = await evidence.bundle(connection, key, openings=False)
    assert (verified(shut, key).opened, verified(shut, key).withheld, "ORDER-2" in shut) == (0, 3, False)
    assert await evidence.erase(connection, hostile) == 2
    after = await evidence.bundle(connection, key)
    assert (verified(after, key).opened, verified(after, key).withheld) == (1, 2)
    assert Bundle.read(after).entries == Bundle.read(before).entries
    assert Bundle.read(after).entries == await evidence.entries(connection)
    assert Bundle.read(after).entries[0]["x"] == hostile
    assert json.loads(after.split("\n")[1])["openings"]["s1"] is None


async def test_what_says_the_same_is_recorded_once(connection: Connection) -> None:
    old = Entry("migration", {"name": "m", "tenants": {"first": ("1", "2")}})
    new = Entry("migration", {"name": "m", "tenants": {"first": ("1", "3")}})
    left = [await evidence.record_if_new(connection, entry) for entry in (old, old, new, new, old)]
    assert left == [True, False, True, False, True]
    assert [entry["tenants"]["first"][1] for entry in await evidence.entries(connection)] == ["2", "3", "2"]
