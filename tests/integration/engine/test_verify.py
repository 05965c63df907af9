"""Verification: planted differences are found by key and cause, and load plants none."""

from pathlib import Path
from typing import LiteralString

import pytest

from alih.model.finding import Cause, Verdict
from alih.postgres.embedded import binary
from alih.process import child
from tests.integration.engine.world import World, equal_tables, following, rows
from tests.support.databases import Databases
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

LINES = "CREATE TABLE lines (order_id int, line text, qty int, PRIMARY KEY (order_id, line))"
HOT = "CREATE TABLE hot (id int PRIMARY KEY, n bigint NOT NULL); CREATE TABLE brief (id int PRIMARY KEY, n int)"
SCRIPT = r"""
\set id random(1, 5)
\set other random(1, 40)
UPDATE hot SET n = n + 1 WHERE id = :id;
INSERT INTO brief VALUES (:other, :other) ON CONFLICT DO NOTHING;
DELETE FROM brief WHERE id = (:other * 7) % 41;
"""


def found(verdict: Verdict) -> set[tuple[tuple[str, ...], Cause]]:
    return {(finding.key, finding.cause) for finding in verdict.findings}


async def test_planted_differences_are_found_by_key_and_cause(databases: Databases, tmp_path: Path) -> None:
    async with equal_tables(databases, tmp_path, LINES) as world:
        await world.source.execute("INSERT INTO lines SELECT i, 'a, \"b\"', i FROM generate_series(1, 5000) i")
        await world.engine().copy()
        async with following(world.engine()):
            clean = await world.verified()
            assert (clean.rows, clean.findings, clean.undecided) == (5000, (), 0)
            await world.target.execute("DELETE FROM lines WHERE order_id = 17")
            await world.target.execute("UPDATE lines SET qty = NULL WHERE order_id = 18")
            await world.target.execute("INSERT INTO lines VALUES (19, 'rahasia', 1)")
            await world.source.execute("UPDATE lines SET qty = 0 WHERE order_id = 20")
            async with world.engine().verifier() as verifier:
                verdict = await verifier.everything()
                await verifier.record(verdict)
        line = 'a, "b"'
        assert found(verdict) == {
            (("17", line), Cause.MISSING),
            (("18", line), Cause.DIFFERENT),
            (("19", "rahasia"), Cause.SURPLUS),
        }
        assert (verdict.rows, verdict.undecided, verdict.clean) == (5000, 0, False)
        stored: LiteralString = "SELECT row_count, mismatches, undecided, findings->0 FROM alih.verdict"
        ((*numbers, first),) = await rows(world.target, stored)
        assert numbers == [5000, 3, 0]
        assert set(first) == {"entity", "key", "cause", "columns", "hashes"}


async def test_load_on_hot_rows_gives_no_false_difference(databases: Databases, tmp_path: Path) -> None:
    """Rows that change, come and go faster than anybody looks; and among them a difference that is real."""
    script = tmp_path / "hot.sql"
    script.write_text(SCRIPT, encoding="utf-8")
    async with equal_tables(databases, tmp_path, HOT) as world:
        await world.source.execute("INSERT INTO hot SELECT i, 0 FROM generate_series(1, 5) i")
        async with following(world.engine()):
            load = [str(binary("pgbench", 18)), "-n", "-f", str(script), "-c", "4", "-T", "300", "-R", "150"]
            async with child([*load, databases.source], log=tmp_path / "load.log") as pressing:
                await world.engine().copy()
                for _ in range(3):
                    assert (await world.verified()).findings == ()
                await world.target.execute("INSERT INTO brief VALUES (99, 0)")
                assert found(await world.verified()) == {(("99",), Cause.SURPLUS)}
                await world.target.execute("DELETE FROM brief WHERE id = 99")
                await until(lambda: holds(world, "SELECT sum(n) > 100 FROM hot"))
                assert pressing.returncode is None
            await world.caught_up()
            assert (await world.verified()).clean
        await world.both("SELECT * FROM brief ORDER BY id")


async def holds(world: World, question: LiteralString) -> bool:
    return await rows(world.source, question) == [(True,)]


async def test_a_row_that_came_and_went_in_one_batch_is_noted(databases: Databases, tmp_path: Path) -> None:
    """Somebody who has seen it in between could otherwise take it for one that never arrived."""
    async with equal_tables(databases, tmp_path, LINES) as world:
        await world.engine().copy()
        async with following(world.engine()):
            await world.source.execute("INSERT INTO lines VALUES (1, 'a', 1); DELETE FROM lines WHERE order_id = 1")
            await world.caught_up()
        ((key, xid),) = await rows(world.target, "SELECT written[1]::text[], xids[1] FROM alih.changed")
        ((now,),) = await rows(world.source, "SELECT pg_current_xact_id()::text::bigint")
        assert key == ["1", "a"]
        assert xid < now
        assert await world.both("SELECT * FROM lines") == []
