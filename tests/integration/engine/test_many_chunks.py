"""A table copied in many chunks: what is changed before, during and after the copy of whichever chunk arrives once.

The cases of the field: copy and log race on one row (with deletes before inserts, and keys that move), large values
that did not change, transactions in flight.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise, product
from pathlib import Path
from typing import Any, LiteralString

import pytest

from alih.errors import NeedsOperator
from alih.model.projection import Direction
from alih.postgres import chunks, copying, planning
from alih.postgres.planning import Plan
from tests.integration.engine.world import World, equal_tables, following, rows
from tests.support.databases import Databases
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

ITEMS: LiteralString = """
    CREATE TABLE items (id bigint PRIMARY KEY, n int, body text);
    ALTER TABLE items ALTER body SET STORAGE EXTERNAL"""
ALL: LiteralString = "SELECT id, n, md5(body) FROM items ORDER BY id"
STATES: LiteralString = "SELECT state FROM alih.chunk WHERE row_key IS NULL ORDER BY id"
ROWS_OF_THEIR_OWN: LiteralString = "SELECT count(*)::int FROM alih.chunk WHERE row_key IS NOT NULL AND state = 'done'"


async def cut_at(world: World, *bounds: str, entity: str = "items", by: str = "id") -> list[int]:
    """Chunks between these bounds in place of the planned ones; returns their ids."""
    ends = [None, *([bound] for bound in bounds), None]
    async with world.target.transaction():
        await chunks.hold_stream(world.target, Direction.FORWARD)
        await world.target.execute("DELETE FROM alih.chunk")
        await chunks.add(world.target, Direction.FORWARD, [Plan(entity, [by], list(pairwise(ends)), 0)])
    return [number for (number,) in await rows(world.target, "SELECT id FROM alih.chunk ORDER BY id")]


class Holding:
    """Copies of some chunks wait before a step of theirs until they are let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, step: str, numbers: Sequence[int]) -> None:
        self.there: set[int] = set()
        self.go = asyncio.Event()
        self._awaited = set(numbers)
        original = getattr(copying.ChunkCopy, step)

        async def waiting(copy: Any, *arguments: Any, **named: Any) -> Any:
            number = copy._chunk.id
            if number in self._awaited:
                self.there.add(number)
                await self.go.wait()
            return await original(copy, *arguments, **named)

        monkeypatch.setattr(copying.ChunkCopy, step, waiting)

    async def all_there(self) -> None:
        await until(lambda: self.there == self._awaited)


@asynccontextmanager
async def copying_beside(world: World, workers: int = 2) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(world.engine().copy(workers))
        yield


async def one_moment_of_everything(world: World, phase: int, pieces: int = 6) -> None:
    """In each chunk insert, update and delete; and move a row from each chunk into each, twice: once as it is, so that
    its large value does not arrive, and once with a new one. Chunk c has the keys from 1000 c on."""
    own = phase * 100
    for at in range(0, 1000 * pieces, 1000):
        await world.source.execute(
            "WITH i AS (INSERT INTO items VALUES (%(at)s + 9, 1, 'new')), d AS (DELETE FROM items WHERE id = %(at)s)"
            " UPDATE items SET n = n + 1, body = CASE id %% 2 WHEN 1 THEN 'shorter' ELSE body END"
            " WHERE id BETWEEN %(at)s + 1 AND %(at)s + 4",
            {"at": at + own},
        )
    for left, entered in product(range(pieces), range(pieces)):
        for large, shift in ((True, 0), (False, 10)):
            place = {"old": 1000 * left + own + 20 + shift + entered, "new": 1000 * entered + own + 40 + shift + left}
            await world.source.execute(
                "UPDATE items SET id = %(new)s, body = coalesce(%(body)s, body) WHERE id = %(old)s",
                {**place, "body": None if large else "moved"},
            )


async def start_rows(world: World, phases: Sequence[int], pieces: int = 6) -> None:
    for phase in phases:
        await world.source.execute(
            "INSERT INTO items SELECT i, 0, repeat(md5(i::text), 100) FROM generate_series(0, %s, 1000) c,"
            " LATERAL (SELECT c + %s + k AS i FROM unnest(ARRAY[0, 1, 2, 3, 4, 20, 21, 22, 23, 24, 25, 30, 31, 32, 33,"
            " 34, 35]) k) r",
            (1000 * (pieces - 1), 100 * phase),
        )


INSERTED_INTO_DONE = 2 * 4  # the old row is not on the target: from each of four chunks, into each of two
REPLAYED = 2 * 5  # into each of two chunks that are copied, from each of the other five


@pytest.mark.parametrize(
    ("step", "anew"),
    [
        ("_take_snapshot", INSERTED_INTO_DONE),
        ("_forward_rows", INSERTED_INTO_DONE + REPLAYED),
        ("_lock", INSERTED_INTO_DONE + REPLAYED),
    ],
)
async def test_copy_races_the_log_between_chunks_in_every_pair_of_states(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, anew: int
) -> None:
    """Two chunks are done, two are being copied, two are not started, while all sorts of changes cross."""
    async with equal_tables(databases, tmp_path, ITEMS) as world, following(world.engine()):
        await start_rows(world, [1, 2, 3])
        numbers = await cut_at(world, "1000", "2000", "3000", "4000", "5000")
        holding = Holding(monkeypatch, step, numbers[2:4])
        await one_moment_of_everything(world, 1)  # before: nothing is started
        await world.caught_up()
        async with copying_beside(world):
            await holding.all_there()
            states = ["done", "done", "spooling", "spooling", "not started", "not started"]
            assert [state for (state,) in await rows(world.target, STATES)] == states
            await one_moment_of_everything(world, 2)
            await world.caught_up()
            holding.go.set()
        assert await rows(world.target, ROWS_OF_THEIR_OWN) == [(anew,)]
        await one_moment_of_everything(world, 3)  # after: all is done
        await world.caught_up()
        assert len(await world.both(ALL)) == 3 * 6 * 17
        assert await rows(world.target, ROWS_OF_THEIR_OWN) == [(anew,)]
        assert await rows(world.target, "SELECT count(*) FROM alih.spool") == [(0,)]


async def test_a_log_read_late_is_judged_by_each_chunks_own_snapshot(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the chunks were read before the changes and half after them, and only then is the log read."""
    async with equal_tables(databases, tmp_path, ITEMS) as world:
        await start_rows(world, [1])
        numbers = await cut_at(world, "1000", "2000", "3000", "4000", "5000")
        holding = Holding(monkeypatch, "_mark_spooling", numbers[3:4])
        async with asyncio.TaskGroup() as tasks:
            copied = tasks.create_task(world.engine().copy(1))
            await holding.all_there()
            await one_moment_of_everything(world, 1)
            holding.go.set()
            await until(lambda: all_done(world))
            async with following(world.engine()):
                assert await copied == 6 + 9  # the rows of their own, too
                await world.caught_up()
        assert len(await world.both(ALL)) == 6 * 17


async def all_done(world: World) -> bool:
    return {state for (state,) in await rows(world.target, STATES)} == {"done"}


async def test_a_row_of_its_own_that_moves_while_it_is_read(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes, and comes back without its large value: what is at hand cannot complete it, so it is read once more."""
    async with equal_tables(databases, tmp_path, ITEMS) as world, following(world.engine()):
        await world.source.execute(
            "INSERT INTO items SELECT i, 0, repeat(md5(i::text), 100) FROM generate_series(1500, 1502) i"
        )
        numbers = await cut_at(world, "1000")
        ready = Holding(monkeypatch, "_mark_spooling", numbers[1:])
        own = Holding(monkeypatch, "_lock", [numbers[1] + 1])
        async with copying_beside(world, workers=1):
            await ready.all_there()
            await world.source.execute("UPDATE items SET id = 5 WHERE id = 1500")
            await world.caught_up()
            ready.go.set()
            await own.all_there()
            await world.source.execute("UPDATE items SET id = 6 WHERE id = 5")
            await world.source.execute("UPDATE items SET id = 5, n = 7 WHERE id = 6")
            await world.caught_up()
            own.go.set()
        await world.caught_up()
        assert [number for number, *_ in await world.both(ALL)] == [5, 1501, 1502]
        own_row: LiteralString = "SELECT attempt FROM alih.chunk WHERE row_key IS NOT NULL ORDER BY id LIMIT 1"
        assert await rows(world.target, own_row) == [(2,)]


USERS: LiteralString = "CREATE TABLE users (id bigint PRIMARY KEY, email text UNIQUE)"


@asynccontextmanager
async def two_halves_of_users(databases: Databases, directory: Path) -> AsyncIterator[tuple[World, list[int]]]:
    async with equal_tables(databases, directory, USERS) as world, following(world.engine()):
        await world.source.execute("INSERT INTO users VALUES (1, 'one'), (1001, 'two'), (1002, 'three')")
        yield world, await cut_at(world, "1000", entity="users")


@pytest.mark.parametrize("step", ["_forward_rows", "_lock"])
async def test_a_unique_value_handed_from_a_chunk_that_is_copied_to_one_that_is_done(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Before its rows are written the copy collides with the follower; after that the follower waits for the copy."""
    async with two_halves_of_users(databases, tmp_path) as (world, numbers):
        holding = Holding(monkeypatch, step, numbers[1:])
        async with copying_beside(world, workers=1):
            await holding.all_there()
            async with world.source.transaction():
                await world.source.execute("UPDATE users SET email = 'free' WHERE id = 1001")
                await world.source.execute("UPDATE users SET email = 'two' WHERE id = 1")
            if step == "_lock":
                await until(lambda: somebody_waits(world))
            else:
                await world.caught_up()
            holding.go.set()
        await world.caught_up()
        assert await world.both("SELECT * FROM users ORDER BY id") == [(1, "two"), (1001, "free"), (1002, "three")]
        assert await rows(world.target, "SELECT attempt FROM alih.chunk ORDER BY id") == [(1,), (2,)]


async def somebody_waits(world: World) -> bool:
    return await rows(world.target, "SELECT FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'") != []


async def test_a_foreign_row_with_a_unique_value_is_named(databases: Databases, tmp_path: Path) -> None:
    async with two_halves_of_users(databases, tmp_path) as (world, _):
        await world.target.execute("INSERT INTO users VALUES (5, 'three')")
        with pytest.raises(NeedsOperator, match=r"users already has .*\(constraint users_email_key\)") as refused:
            await world.engine().copy(1)
        assert "three" not in str(refused.value)
        assert await rows(world.target, "SELECT * FROM users ORDER BY id") == [(1, "one"), (5, "three")]


async def test_rows_are_cut_by_size_and_a_finished_chunk_is_never_copied_again(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with equal_tables(databases, tmp_path, ITEMS) as world:
        await world.source.execute(
            "INSERT INTO items SELECT i, 0, repeat(md5(i::text), 100) FROM generate_series(10, 1000, 10) i"
        )
        await plan_anew(world, monkeypatch, 5)
        async with following(world.engine()):
            assert await world.engine().copy() == 5
            assert len(await world.both(ALL)) == 100
            counted: LiteralString = (
                "SELECT count(*) FILTER (WHERE row_count BETWEEN 15 AND 25), sum(row_count)::int, max(attempt)"
                " FROM alih.chunk"
            )
            assert await rows(world.target, counted) == [(5, 100, 1)]
            assert await world.engine().copy() == 0
            assert await rows(world.target, counted) == [(5, 100, 1)]


async def plan_anew(world: World, monkeypatch: pytest.MonkeyPatch, pieces: int, table: LiteralString = "items") -> None:
    """As if the tables had had their rows when the stream was opened."""
    ((size,),) = await rows(world.source, f"SELECT pg_table_size('{table}')")
    monkeypatch.setattr(planning, "_CHUNK_BYTES", size // pieces)
    await world.target.execute("DELETE FROM alih.chunk")
    await world.engine().open()


KEYS: dict[str, tuple[LiteralString, LiteralString, list[str]]] = {
    "bigints": ("k bigint PRIMARY KEY", "i * 1000000000000 - 250000000000000", ["k"]),
    "uuids": ("k uuid PRIMARY KEY", "md5(i::text)::uuid", ["k"]),
    "c_texts": ('k text COLLATE "C" PRIMARY KEY', "md5(i::text) || 'é'", ["k"]),
    "collated": ('k text COLLATE "C.utf8" PRIMARY KEY', "md5(i::text)", []),
    "numbers": ("k numeric PRIMARY KEY", "i / 7.0", []),
    "pairs": (
        'j int, k varchar(40) COLLATE "POSIX", PRIMARY KEY (k, j)',
        "i, md5((i / 10)::text)",
        ["k", "j"],
    ),
    "beginnings": ('j int, k text COLLATE "C.utf8", PRIMARY KEY (j, k)', "i / 2, md5(i::text)", ["j"]),
}


async def test_keys_of_every_kind(databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What can be ordered outside the database is cut, in the order of its index; the rest is one chunk."""
    tables = ";".join(f"CREATE TABLE {name} ({key}, n int)" for name, (key, _, _) in KEYS.items())
    async with equal_tables(databases, tmp_path, tables) as world:
        for name, (key, value, _) in KEYS.items():
            columns = "j, k, n" if key.startswith("j") else "k, n"
            await world.source.execute(
                f"INSERT INTO {name} ({columns}) SELECT {value}, 0 FROM generate_series(1, 500) i"  # noqa: S608
            )
        await plan_anew(world, monkeypatch, 3, "uuids")
        cut = await rows(world.target, "SELECT entity, ordered_by FROM alih.chunk GROUP BY 1, 2")
        assert dict(cut) == {name: ordered_by for name, (_, _, ordered_by) in KEYS.items()}
        async with following(world.engine()):
            await world.engine().copy()
            for name in KEYS:
                await world.source.execute(f"UPDATE {name} SET n = 1 WHERE ctid <= '(0,50)'")  # noqa: S608
            await world.caught_up()
            assert (await world.verified()).clean
        several = await rows(world.target, "SELECT entity FROM alih.chunk GROUP BY 1 HAVING count(*) > 1")
        assert {name for (name,) in several} == {name for name, (_, _, by) in KEYS.items() if by}
