"""Repair: what differs is made equal while the shop writes, exactly that, and it is on record."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from alih.faults import Point, plant
from alih.model.finding import Cause, Finding, Verdict
from alih.postgres.embedded import binary
from alih.process import Child, child
from tests.integration.engine.world import World, equal_tables, following, rows
from tests.support.databases import Databases

pytestmark = pytest.mark.anyio

# `big` lies outside of the row, so the log of an update of `n` does not carry it: what is wrong there stays wrong.
TABLES = """
CREATE TABLE goods (id int PRIMARY KEY, n bigint NOT NULL, big text NOT NULL);
ALTER TABLE goods ALTER big SET STORAGE EXTERNAL;
CREATE TABLE brief (id int PRIMARY KEY, n int);
"""
SCRIPT = r"""
\set id random(1, 5)
\set other random(1, 40)
BEGIN;
SAVEPOINT a;
UPDATE goods SET n = n + 1 WHERE id = :id;
RELEASE a;
COMMIT;
INSERT INTO brief VALUES (:other, :other) ON CONFLICT DO NOTHING;
DELETE FROM brief WHERE id = (:other * 7) % 41;
"""
PLANTED = (
    "UPDATE goods SET big = repeat('y', 4000) WHERE id = 2",  # hot
    "UPDATE goods SET big = repeat('y', 4000), n = -1 WHERE id = 300",
    "DELETE FROM goods WHERE id = 301",
    "INSERT INTO goods VALUES (999, 1, 'surplus')",
)


@asynccontextmanager
async def busy(world: World, tmp_path: Path, rate: int = 100) -> AsyncIterator[Child]:
    """The copied tables, followed while hot rows are written inside savepoints."""
    script = tmp_path / "busy.sql"
    script.write_text(SCRIPT, encoding="utf-8")
    await world.source.execute("INSERT INTO goods SELECT i, 0, repeat('x', 4000) FROM generate_series(1, 500) i")
    async with following(world.engine()):
        load = [str(binary("pgbench", 18)), "-n", "-f", str(script), "-c", "3", "-T", "300", "-R", str(rate)]
        await world.engine().copy()
        async with child([*load, world.databases.source], log=tmp_path / "load.log") as pressing:
            yield pressing
        await world.caught_up()


def found(verdict: Verdict) -> set[tuple[str, tuple[str, ...], Cause, tuple[str, ...]]]:
    return {(each.entity, each.key, each.cause, each.columns) for each in verdict.findings}


async def repaired(world: World, verdict: Verdict) -> tuple[list[Finding], Verdict]:
    async with world.engine().repair("budi") as (repair, verifier):
        mended = await repair.mend(verdict.findings)
        return mended, await verifier.of(verdict.findings)


async def test_what_differs_is_found_and_mended_under_load(databases: Databases, tmp_path: Path) -> None:
    async with equal_tables(databases, tmp_path, TABLES) as world:
        async with busy(world, tmp_path) as load:
            assert (await world.verified()).clean
            for statement in PLANTED:
                await world.target.execute(statement)
            verdict = await world.verified()
            assert found(verdict) == {
                ("goods", ("2",), Cause.DIFFERENT, ("big",)),
                ("goods", ("300",), Cause.DIFFERENT, ("n", "big")),
                ("goods", ("301",), Cause.MISSING, ()),
                ("goods", ("999",), Cause.SURPLUS, ()),
            }
            assert verdict.undecided == 0
            mended, again = await repaired(world, verdict)
            assert {each.key for each in mended} == {each.key for each in verdict.findings}
            assert (again.rows, again.clean) == (4, True)
            assert (await world.verified()).clean
            assert load.returncode is None
        await world.both("SELECT id, n, md5(big) FROM goods ORDER BY id")
        await world.both("SELECT * FROM brief ORDER BY id")
        done = await rows(
            world.target,
            "SELECT write_key[1], cause, columns, hash_before IS NULL, hash_after IS NULL, repaired_by FROM alih.repair"
            " ORDER BY write_key[1]",
        )
        assert done == [
            ("2", "different", ["big"], False, False, "budi"),
            ("300", "different", ["n", "big"], False, False, "budi"),
            ("301", "missing", [], True, False, "budi"),
            ("999", "surplus", [], False, True, "budi"),
        ]


class _Killed(Exception):
    """The process ended there."""


@pytest.mark.parametrize(("point", "left"), [(Point.REPAIR_WRITTEN, False), (Point.REPAIR_COMMITTED, True)])
async def test_a_repair_that_dies_is_whole_or_nothing(
    databases: Databases, tmp_path: Path, point: Point, left: bool
) -> None:
    def die(at: Point) -> None:
        if at is point:
            raise _Killed

    async with equal_tables(databases, tmp_path, TABLES) as world:
        await world.source.execute("INSERT INTO goods VALUES (1, 1, 'x'), (2, 2, 'x')")
        await world.engine().copy()
        async with following(world.engine()):
            await world.target.execute("DELETE FROM goods WHERE id = 1; UPDATE goods SET big = 'y' WHERE id = 2")
            verdict = await world.verified()
            plant(die)
            try:
                with pytest.raises(_Killed):
                    await repaired(world, verdict)
            finally:
                plant(None)
            assert ((await world.verified()).clean, await rows(world.target, "SELECT count(*) FROM alih.repair")) == (
                left,
                [(2 if left else 0,)],
            )
            assert (await repaired(world, verdict))[1].clean
        await world.both("SELECT * FROM goods ORDER BY id")
        assert await rows(world.target, "SELECT count(*) FROM alih.repair") == [(2,)]


async def test_a_row_of_a_tenant_that_was_turned_over_is_left_alone(databases: Databases, tmp_path: Path) -> None:
    tables = (
        "CREATE TABLE shop (id int PRIMARY KEY); CREATE TABLE item (id int PRIMARY KEY, shop_id int NOT NULL, n int)"
    )
    async with equal_tables(databases, tmp_path, tables, {"shop": "id", "item": "shop_id"}) as world:
        await world.source.execute("INSERT INTO shop VALUES (1), (2); INSERT INTO item VALUES (1, 1, 1), (2, 2, 1)")
        await world.engine().copy()
        async with following(world.engine()):
            await world.target.execute("UPDATE item SET n = 5")
            verdict = await world.verified()
            assert [each.key for each in verdict.findings] == [("1",), ("2",)]
            await world.target.execute("INSERT INTO alih.flow VALUES ('forward', '1', false, 1)")
            mended, again = await repaired(world, verdict)
        assert [each.key for each in mended] == [("2",)]
        assert again.clean
        assert await rows(world.target, "SELECT id, n FROM item ORDER BY id") == [(1, 5), (2, 1)]
