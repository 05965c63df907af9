"""Ten million rows, copied while `alih run` or its worker is killed ten times: no finished chunk is copied again."""

import asyncio
import random
from pathlib import Path
from typing import LiteralString

import pytest

from tests.integration.engine.world import World, equal_tables, rows
from tests.support.databases import Databases
from tests.support.nursery import Actor, Nursery, nursery
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

TABLE: LiteralString = "CREATE TABLE marks (id bigint PRIMARY KEY, n int NOT NULL)"
_DONE: LiteralString = "SELECT id, attempt, row_count, snapshot FROM alih.chunk WHERE state = 'done'"
_SAME: LiteralString = "SELECT count(*), sum(id), sum(n), min(id), max(id) FROM marks"
_WITHIN_S = 1_200.0


@pytest.mark.parametrize(
    ("many", "kills"), [(200_000, 2), pytest.param(10_000_000, 10, marks=pytest.mark.long)], ids=["small", "10M"]
)
async def test_no_finished_chunk_is_copied_again(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, many: int, kills: int
) -> None:
    seed = 4711
    print(f"seed {seed}")  # noqa: T201 - shown with a failure
    monkeypatch.setattr("alih.postgres.planning._CHUNK_BYTES", max(256 << 10, many))  # a few dozen chunks
    environment = {
        "ALIH_SOURCE": databases.source,
        "ALIH_TARGET": databases.target,
        "XDG_STATE_HOME": str(tmp_path),
        "PATH": "/usr/bin:/bin",
    }
    async with equal_tables(databases, tmp_path, TABLE) as world, nursery(tmp_path, environment) as made:
        await world.source.execute("INSERT INTO marks SELECT i, i %% 7 FROM generate_series(1, %s) i", (many,))
        await world.target.execute("DELETE FROM alih.chunk")  # cut anew, now that there are rows
        await world.engine().open()
        done = await _killed(world, made, tmp_path, random.Random(seed), kills)
        final = await made.start("run", "--until-verified", str(tmp_path / "alih.yaml"))
        assert await final.end(_WITHIN_S) == 0, final.said()
        assert await _unchanged(world, done) > len(done)
        assert "0 differ, 0 undecided" in final.said()
        ((count, *_),) = await world.both(_SAME)
        assert count == many


async def _killed(
    world: World, made: Nursery, directory: Path, generator: random.Random, kills: int
) -> dict[int, tuple[object, ...]]:
    """Kill the copy so many times, each time a chunk or two later, at whatever moment that is."""
    done: dict[int, tuple[object, ...]] = {}
    for _ in range(kills):
        run = await made.start("run", "--until-verified", str(directory / "alih.yaml"))
        await _more(world, run, len(done) + generator.randint(1, 2))
        await asyncio.wait_for(run.kill(), 60)
        await _unchanged(world, done)
        done = await _finished(world)
    return done


async def _more(world: World, run: Actor, many: int) -> None:
    async def finished() -> bool:
        assert run.code is None, run.said()
        return len(await _finished(world)) >= many

    await until(finished, within_s=300)


async def _finished(world: World) -> dict[int, tuple[object, ...]]:
    return {number: tuple(rest) for number, *rest in await rows(world.target, _DONE)}


async def _unchanged(world: World, done: dict[int, tuple[object, ...]]) -> int:
    """The chunks that were done are as they were: the same attempt, snapshot and rows. Returns how many are done."""
    now = await _finished(world)
    assert {number: now.get(number) for number in done} == done
    return len(now)
