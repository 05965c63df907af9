"""A follower that is killed while writers write: whoever starts it again finds nothing lost and nothing doubled."""

import asyncio
import signal
import sys
from pathlib import Path
from typing import LiteralString

import pytest

from alih.process import child
from tests.integration.engine.world import equal_tables, rows
from tests.support.databases import Databases
from tests.support.pgtools import pgbench
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

TABLES = """
    CREATE TABLE sums (id int PRIMARY KEY, n bigint NOT NULL);
    CREATE TABLE events (id bigserial PRIMARY KEY, sum int NOT NULL, by int NOT NULL)"""
SCRIPT = r"""
\set id random(1, 200)
\set by random(-1000, 1000)
BEGIN;
UPDATE sums SET n = n + :by WHERE id = :id;
INSERT INTO events (sum, by) VALUES (:id, :by);
COMMIT;
"""
KILLS = 3


async def test_kill_9_under_load(databases: Databases, tmp_path: Path) -> None:
    script = tmp_path / "load.sql"
    script.write_text(SCRIPT, encoding="utf-8")
    environment = {"ALIH_SOURCE": databases.source, "ALIH_TARGET": databases.target, "XDG_STATE_HOME": str(tmp_path)}
    argv = [sys.executable, "-m", "alih", "follow", "forward", str(tmp_path / "alih.yaml")]
    async with equal_tables(databases, tmp_path, TABLES) as world, asyncio.TaskGroup() as tasks:
        await world.source.execute("INSERT INTO sums SELECT i, 0 FROM generate_series(1, 200) i")
        load = tasks.create_task(
            asyncio.to_thread(pgbench, databases.source, "-n", "-f", str(script), "-c", "4", "-T", "7", "-R", "1000")
        )
        copying = tasks.create_task(world.engine().copy())
        for _ in range(KILLS):
            applied = await rows(world.target, "SELECT ordinal FROM alih.stream")

            async def moved(applied: object = applied) -> bool:
                return await rows(world.target, "SELECT ordinal FROM alih.stream") != applied

            async with child(argv, log=tmp_path / "follow.log", env=environment) as follower:
                await until(moved)
                follower_ended = follower.wait()
                await follower.stop(signal.SIGKILL)
                assert await follower_ended == -signal.SIGKILL
        async with child(argv, log=tmp_path / "follow.log", env=environment):
            await copying
            await load
            await world.caught_up()
            assert (await world.verified()).clean
        said = (tmp_path / "follow.log").read_text(encoding="utf-8")
        assert said == "stopped; nothing is lost, the same command goes on from here\n"
        ((events, _),) = await world.both("SELECT count(*), sum(by) FROM events")
        assert events > 1000
        differing: LiteralString = (
            "SELECT s.id FROM sums s LEFT JOIN events e ON e.sum = s.id"
            " GROUP BY s.id, n HAVING n <> coalesce(sum(by), 0)"
        )
        assert await rows(world.target, differing) == []
