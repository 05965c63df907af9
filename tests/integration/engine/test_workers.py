"""Workers that share a queue: one that dies is replaced, a person may hold them, and limits are kept."""

import asyncio
import signal
import sys
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, LiteralString

import pytest

from alih import faces
from alih.config import Environment
from alih.errors import NeedsOperator
from alih.model.contract import CopyLimits
from alih.model.projection import Direction
from alih.postgres import chunks, throttle, worker
from alih.postgres.planning import Plan
from alih.process import child
from tests.integration.engine.world import World, connected, equal_tables, following, rows
from tests.support.databases import Databases
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

ITEMS: LiteralString = "CREATE TABLE items (id bigint PRIMARY KEY, body text)"
ALL: LiteralString = "SELECT * FROM items ORDER BY id"
CHUNKS: LiteralString = "SELECT state, attempt FROM alih.chunk ORDER BY id"
WAITING: LiteralString = "SELECT count(*)::int FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
WORKER = (sys.executable, "-m", "alih", "worker")


async def cut_in_four(world: World) -> None:
    ends = [None, ["1000"], ["2000"], ["3000"], None]
    await world.source.execute("INSERT INTO items SELECT i, repeat('x', 100) FROM generate_series(0, 3990, 10) i")
    async with world.target.transaction():
        await chunks.hold_stream(world.target, Direction.FORWARD)
        await world.target.execute("DELETE FROM alih.chunk")
        await chunks.add(world.target, Direction.FORWARD, [Plan("items", ["id"], list(pairwise(ends)), 1_000_000)])


async def test_killing_a_worker_loses_nothing_and_repeats_one_chunk(databases: Databases, tmp_path: Path) -> None:
    """Processes with nothing but two DSNs, in folders of their own; the one that is killed copies at that moment."""
    only_dsns = {"ALIH_SOURCE": databases.source, "ALIH_TARGET": databases.target}
    places = [tmp_path / name for name in ("first", "second")]
    for place in places:
        place.mkdir()
    first_log, second_log = (place / "log" for place in places)
    async with equal_tables(databases, tmp_path, ITEMS) as world, connected(databases.target) as blocking:
        await cut_in_four(world)
        await blocking.execute("BEGIN; INSERT INTO items VALUES (1500)")
        async with following(world.engine()), child(WORKER, log=first_log, env=only_dsns, cwd=places[0]) as first:
            await until(lambda: found(world, WAITING, [(1,)]), within_s=60)
            async with child(WORKER, log=second_log, env=only_dsns, cwd=places[1]) as second:
                done, held = ("done", 1), ("spooling", 1)
                await until(lambda: found(world, CHUNKS, [done, held, done, done]), within_s=60)
                await first.stop(signal.SIGKILL)
                await world.source.execute("UPDATE items SET body = 'changed' WHERE id = 1500")
                await blocking.execute("ROLLBACK")
                assert await second.wait() == 0
            await world.caught_up()
        assert await rows(world.target, CHUNKS) == [done, ("done", 2), done, done]
        assert len(await world.both(ALL)) == 400
    assert second_log.read_text(encoding="utf-8") == "copied 3 chunks; all are done\n"


async def found(world: World, query: LiteralString, expected: list[tuple[Any, ...]]) -> bool:
    return await rows(world.target, query) == expected


async def test_a_worker_where_nothing_is_installed(databases: Databases) -> None:
    only_dsns = {"ALIH_SOURCE": databases.source, "ALIH_TARGET": databases.target}
    with pytest.raises(NeedsOperator, match="no migration is installed in this target"):
        await faces.worker(Environment(variables=MappingProxyType(only_dsns)), print)


async def test_pause_and_resume(databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    idle = asyncio.Event()
    stirred = worker.Worker._stirred

    async def noted(self: worker.Worker) -> None:
        idle.set()
        await stirred(self)

    monkeypatch.setattr(worker.Worker, "_stirred", noted)
    dsns = {"ALIH_SOURCE": databases.source, "ALIH_TARGET": databases.target, "HOME": str(tmp_path)}
    environment, path, said = Environment(variables=MappingProxyType(dsns)), tmp_path / "alih.yaml", list[str]()
    async with equal_tables(databases, tmp_path, ITEMS) as world, following(world.engine()):
        await cut_in_four(world)
        await faces.pause(path, environment, said.append, paused=True)
        async with asyncio.TaskGroup() as tasks:
            copied = tasks.create_task(world.engine().copy(1))
            await idle.wait()
            document = (await faces.status(path, environment))["streams"]["forward"]["copy"]
            assert document == {
                "paused": True,
                "chunks_done": 0,
                "chunks": 4,
                "rows_done": 0,
                "bytes_done": 0,
                "bytes": 4_000_000,
                "bytes_per_s": None,
                "eta_s": None,
            }
            await faces.pause(path, environment, said.append, paused=False)
        assert copied.result() == 4
        document = (await faces.status(path, environment))["streams"]["forward"]["copy"]
        assert document.pop("bytes_per_s") > 0
        assert list(document.values()) == [False, 4, 4, 400, 4_000_000, 4_000_000, 0]
    assert said == ["paused: chunks that are being copied are finished, no other is begun", "resumed"]


async def test_eta_is_what_is_left_at_the_rate_of_what_was_done(databases: Databases, tmp_path: Path) -> None:
    dsns = {"ALIH_SOURCE": databases.source, "ALIH_TARGET": databases.target, "HOME": str(tmp_path)}
    async with equal_tables(databases, tmp_path, ITEMS) as world:
        await cut_in_four(world)
        await world.target.execute(
            "UPDATE alih.chunk SET state = 'done', snapshot = '1:1:', settled = '0/0', row_count = 7,"
            " begun_at = clock_timestamp() - interval '10 s', done_at = clock_timestamp() WHERE lower IS NULL"
        )
        environment = Environment(variables=MappingProxyType(dsns))
        document = (await faces.status(tmp_path / "alih.yaml", environment))["streams"]["forward"]
        assert (document["copy"]["chunks_done"], document["copy"]["rows_done"]) == (1, 7)
        assert document["copy"]["bytes_per_s"] == pytest.approx(100_000, rel=0.3)
        assert document["copy"]["eta_s"] == pytest.approx(30, rel=0.3)
        assert [(c["entity"], c["state"], c["chunks"], c["done"]) for c in document["chunks"]] == [
            ("items", "spooling", 4, 1)
        ]


async def test_the_rate_is_capped(databases: Databases, tmp_path: Path) -> None:
    limits = CopyLimits(rate_mb_per_s=1, max_replica_lag_ms=60_000, max_target_latency_ms=60_000)
    async with equal_tables(databases, tmp_path, ITEMS) as world:
        await world.source.execute("INSERT INTO items SELECT i, repeat('x', 1000) FROM generate_series(1, 400) i")
        begun = time.monotonic()
        await replace(world.engine(), limits=limits).copy()
        assert time.monotonic() - begun >= 0.4
        assert len(await world.both(ALL)) == 400


async def test_a_copy_waits_for_replicas_and_for_the_target(
    databases: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lag is too long twice, then the target too slow once; each look is noted."""
    monkeypatch.setattr(throttle, "_LOOK_EVERY_S", 0.01)
    lags, latencies, looks = [900.0, 101.0, 100.0, 0.0], [51.0, 50.0], list[float]()

    async def next_of(values: list[float]) -> float:
        looks.append(values.pop(0))
        return looks[-1]

    monkeypatch.setattr(throttle.Throttle, "_lag_ms", lambda _: next_of(lags))
    monkeypatch.setattr(throttle.Throttle, "_latency_ms", lambda _: next_of(latencies))
    async with connected(databases.source) as source, connected(databases.target) as target:
        limits = CopyLimits(max_replica_lag_ms=100, max_target_latency_ms=50)
        await throttle.Throttle(limits, source, target).passed(1)
    assert looks == [900.0, 101.0, 100.0, 51.0, 0.0, 50.0]
