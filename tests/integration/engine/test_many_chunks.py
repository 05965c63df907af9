"""A table copied in many chunks: what is changed before, during and after the copy of whichever chunk arrives once."""

from pathlib import Path
from typing import LiteralString

import pytest

from alih.postgres import planning
from tests.integration.engine.world import World, equal_tables, following, rows
from tests.support.databases import Databases

pytestmark = pytest.mark.anyio

ITEMS: LiteralString = """
    CREATE TABLE items (id bigint PRIMARY KEY, name text, body text);
    ALTER TABLE items ALTER body SET STORAGE EXTERNAL"""
CHUNKS: LiteralString = "SELECT state, count(*), max(attempt) FROM alih.chunk GROUP BY state ORDER BY state"
COUNTED: LiteralString = (
    "SELECT count(*) FILTER (WHERE row_count BETWEEN 15 AND 25), sum(row_count)::int FROM alih.chunk"
)


async def cut(world: World, monkeypatch: pytest.MonkeyPatch, pieces: int) -> None:
    """Plan the chunks anew, now that there are rows."""
    ((size,),) = await rows(world.source, "SELECT pg_table_size('items')")
    monkeypatch.setattr(planning, "_CHUNK_BYTES", size // pieces)
    await world.target.execute("DELETE FROM alih.chunk")
    await world.engine().open()


async def fill(world: World) -> None:
    await world.source.execute(
        "INSERT INTO items SELECT i, 'old', repeat(md5(i::text), 100) FROM generate_series(10, 1000, 10) i"
    )


async def test_rows_of_many_chunks(databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with equal_tables(databases, tmp_path, ITEMS) as world:
        await fill(world)
        await cut(world, monkeypatch, 5)
        async with following(world.engine()):
            assert await world.engine().copy() == 5
            await world.caught_up()
            assert len(await world.both("SELECT * FROM items ORDER BY id")) == 100
            assert await rows(world.target, CHUNKS) == [("done", 5, 1)]
            assert await rows(world.target, COUNTED) == [(5, 100)]
            assert await world.engine().copy() == 0
