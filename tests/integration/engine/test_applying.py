"""What a batch makes of its changes, through the real follower: compaction, unique values handed on, chains of keys,
parts of large transactions, and a batch that has to be read anew."""

import random
import sys
from pathlib import Path
from typing import LiteralString

import pytest
from psycopg import sql

from alih.model.projection import Direction
from alih.model.side import SHARED
from alih.postgres import changed, folding
from tests.integration.engine.world import Connection, World, connected, equal_tables, following, rows
from tests.support.databases import Databases

pytestmark = pytest.mark.anyio

SEATS = """
    CREATE TABLE seats (
        id int PRIMARY KEY, guest text, place int NOT NULL, CONSTRAINT seats_place UNIQUE (place) DEFERRABLE
    );
    ALTER TABLE seats ALTER guest SET STORAGE EXTERNAL"""
SEATED: LiteralString = "SELECT id, md5(guest), place FROM seats ORDER BY id"


async def strict_target(world: World) -> None:
    """The target looks at a unique value at once, and has a column of its own."""
    await world.target.execute("ALTER TABLE seats DROP CONSTRAINT seats_place, ADD UNIQUE (place)")
    await world.target.execute(
        "ALTER TABLE seats ADD note text DEFAULT 'new', ADD twice int GENERATED ALWAYS AS (place * 2) STORED"
    )


HANDED_ON: dict[str, list[LiteralString]] = {
    "a swap": ["UPDATE seats SET place = 3 - place WHERE id IN (1, 2)"],
    "a ring": ["UPDATE seats SET place = place % 6 + 1"],
    "a swap over a third place": [
        "UPDATE seats SET place = 100 WHERE id = 1",
        "UPDATE seats SET place = 1 WHERE id = 2",
        "UPDATE seats SET place = 2 WHERE id = 1",
    ],
    "a place freed and taken": [
        "DELETE FROM seats WHERE id = 6",
        "UPDATE seats SET place = 6 WHERE id = 2",
        "INSERT INTO seats VALUES (6, 'new', 2)",
    ],
    "swaps of rows that arrive whole and in part": [
        "UPDATE seats SET place = 7 - place",
        "UPDATE seats SET guest = guest || '!' WHERE id > 3",
    ],
}


async def test_rows_hand_a_unique_value_on(databases: Databases, tmp_path: Path) -> None:
    """In one transaction or in several of one batch. The source looks when a statement ends, the target at each row."""
    async with equal_tables(databases, tmp_path, SEATS) as world:
        await world.source.execute("INSERT INTO seats SELECT n, repeat('g', 5000) || n, n FROM generate_series(1, 6) n")
        await world.engine().copy()
        await strict_target(world)
        await world.target.execute("UPDATE seats SET note = 'kept'")
        for statements in HANDED_ON.values():
            async with world.source.transaction():
                for statement in statements:
                    await world.source.execute(statement)
            await applied_at_once(world)
            for statement in ("UPDATE seats SET place = id", *statements):
                await world.source.execute(statement)
            await applied_at_once(world)
            await world.source.execute("UPDATE seats SET place = id")
        own: LiteralString = "SELECT DISTINCT note, twice = place * 2 FROM seats WHERE id < 6"
        assert await rows(world.target, own) == [("kept", True)]


async def applied_at_once(world: World) -> None:
    """What was written since the last time comes as one batch, or as few as there can be."""
    async with following(world.engine()):
        await world.caught_up()
    await world.both(SEATED)


KEYS = "CREATE TABLE keys (id int PRIMARY KEY, big text, n int); ALTER TABLE keys ALTER big SET STORAGE EXTERNAL"
ALL_KEYS: LiteralString = "SELECT id, md5(big), n FROM keys ORDER BY id"


async def test_chains_and_rings_of_keys_with_values_that_did_not_arrive(databases: Databases, tmp_path: Path) -> None:
    async with equal_tables(databases, tmp_path, KEYS) as world:
        await world.source.execute("INSERT INTO keys SELECT n, repeat('x', 5000) || n, n FROM generate_series(1, 4) n")
        await world.engine().copy()
        async with world.source.transaction():
            for old, new in [(4, 5), (3, 4), (2, 3), (1, 2), (5, 1)]:
                await world.source.execute("UPDATE keys SET id = %s WHERE id = %s", (new, old))
                await world.source.execute("UPDATE keys SET n = n + 10 WHERE id = %s", (new,))
        async with following(world.engine()):
            await world.caught_up()
        assert [n for _, _, n in await world.both(ALL_KEYS)] == [24, 11, 12, 13]


WIDE = """
    CREATE TABLE wide (
        id bigint PRIMARY KEY, flag bool, tiny smallint, fraction real, at timestamptz, name text, bytes bytea,
        amount numeric, unique_id uuid, words text[], day date
    );
    ALTER TABLE wide ALTER bytes SET STORAGE EXTERNAL;
    CREATE TABLE pairs (left_part text, n int, right_part text, PRIMARY KEY (left_part, right_part))"""
EVERYTHING: LiteralString = "SELECT id, w::text FROM wide w ORDER BY id"
PAIRS: LiteralString = "SELECT * FROM pairs ORDER BY left_part, right_part"
NAMES = ["", "bu", "n", "tolong dibungkus", "é" * 60, "u" * 99, "u" * 100, "u" * 101, None, "N"]


async def test_random_transactions_leave_the_tables_equal(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches are small, so that they are read while others are written and large transactions come in parts."""
    seed = random.randrange(1 << 32)
    sys.stdout.write(f"seed {seed}\n")
    dice = random.Random(seed)
    monkeypatch.setattr(folding, "SOFT_FULL", 30)
    monkeypatch.setattr(folding, "FULL", 70)
    async with equal_tables(databases, tmp_path, WIDE) as world:
        await world.engine().copy()
        async with following(world.engine()):
            for number in range(40):
                async with world.source.transaction(force_rollback=dice.random() < 0.1):
                    for _ in range(dice.choice([1, 1, 3, 20, 150])):
                        await change_wide(world.source, dice)
                if number % 20 == 19:
                    await world.caught_up()
                    await world.both(EVERYTHING)
                    await world.both(PAIRS)
            assert (await world.verified()).clean
        assert await rows(world.target, "SELECT stopped FROM alih.stream") == [(None,)]


async def change_wide(source: Connection, dice: random.Random) -> None:
    key, other = dice.randrange(12), dice.randrange(12)
    match dice.choice("iiiuuupddmkk"):
        case "i":
            await source.execute(
                "INSERT INTO wide VALUES (%(key)s, %(flag)s, %(n)s, %(n)s / 7.0, to_timestamp(%(n)s), %(name)s,"
                " convert_to(repeat(%(n)s::text, 3000), 'UTF8'), %(n)s, md5(%(n)s::text)::uuid, ARRAY[%(name)s, NULL],"
                " '0044-03-15 BC') ON CONFLICT DO NOTHING",
                {"key": key, "flag": dice.choice([True, None]), "n": dice.randrange(30000), "name": dice.choice(NAMES)},
            )
        case "u":
            await source.execute(
                "UPDATE wide SET name = %s, amount = -amount, day = NULL WHERE id = %s", (dice.choice(NAMES), key)
            )
        case "p":
            await source.execute("UPDATE wide SET bytes = NULL, words = '{}' WHERE id = %s", (key,))
        case "d":
            await source.execute("DELETE FROM wide WHERE id = %s", (key,))
        case "m":
            await source.execute(
                "UPDATE wide SET id = %(to)s WHERE id = %(key)s AND NOT EXISTS (SELECT FROM wide WHERE id = %(to)s)",
                {"key": key, "to": other},
            )
        case _:
            await source.execute(
                "INSERT INTO pairs VALUES (%s, %s, %s) ON CONFLICT (left_part, right_part)"
                " DO UPDATE SET n = pairs.n + 1",
                (f"l{key % 4},", key, f'"r{other % 3}'),
            )


async def test_a_batch_is_read_anew_when_chunks_have_changed_meanwhile(databases: Databases, tmp_path: Path) -> None:
    """What was folded in the belief that all is to be applied is looked at change by change after all."""
    async with equal_tables(databases, tmp_path, KEYS) as world, connected(databases.target) as worker:
        await world.engine().copy()
        async with following(world.engine()):
            await world.source.execute("INSERT INTO keys VALUES (1, 'before', 1)")
            await world.caught_up()
            async with worker.transaction():
                await worker.execute("SELECT FROM alih.stream FOR UPDATE")
                for number in range(2, 40):
                    await world.source.execute("INSERT INTO keys VALUES (%s, 'meanwhile', 0)", (number,))
                    await world.source.execute("UPDATE keys SET n = n + 1 WHERE id <= 2")
                await worker.execute("UPDATE alih.stream SET chunk_version = chunk_version + 1")
                await worker.execute("UPDATE alih.chunk SET settled = 'FFFFFFFF/0'")
            await world.caught_up()
            assert len(await world.both(ALL_KEYS)) == 39
        assert await rows(world.target, "SELECT stopped FROM alih.stream") == [(None,)]


async def test_keys_of_every_form_are_found_in_the_changed_log(databases: Databases, tmp_path: Path) -> None:
    keys = [('a"b', "c,d"), ("{}", "NULL"), ("\x1f", ""), ("\\", "é")]
    async with equal_tables(databases, tmp_path, WIDE) as world:
        await world.engine().copy()
        insert = sql.SQL("INSERT INTO pairs VALUES (%s, 0, %s)")
        async with following(world.engine()):
            for left, right in keys:
                await world.source.execute(insert, (left, right))
            await world.source.execute("INSERT INTO wide (id) VALUES (7)")
            await world.caught_up()
            await world.source.execute("UPDATE pairs SET n = 1")
            ((last,),) = await rows(world.source, "SELECT xmin::text::bigint FROM pairs LIMIT 1")
            behind = await world.caught_up()
        found = await changed.applied(world.target, Direction.FORWARD, "pairs", [*keys, ("not", "there")])
        assert {key: touched.xid for key, touched in found.items()} == dict.fromkeys(keys, last)
        assert await changed.applied(world.target, Direction.FORWARD, "pairs", keys, since=behind) == {}
        of = await changed.of_tenants(world.target, Direction.FORWARD, [SHARED])
        assert {entity: {k.write_key for k in those} for entity, those in of.items()} == {
            "pairs": set(keys),
            "wide": {("7",)},
        }
        await changed.compact(world.target, Direction.FORWARD)
        assert await changed.of_tenants(world.target, Direction.FORWARD, [SHARED]) == of
        assert await changed.applied(world.target, Direction.FORWARD, "pairs", keys) == {k: found[k] for k in keys}
        assert await rows(world.target, "SELECT count(*) FROM alih.changed") == [(2,)]
        await changed.forget(world.target, Direction.FORWARD, behind, None)
        assert await changed.of_tenants(world.target, Direction.FORWARD, [SHARED]) == {}
