"""Links and rehearsal as the commands have them: before the first row, and for accounts that are linked later."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import LiteralString

import pytest

from alih import app, faces, following
from alih.app import Migration
from alih.config import Environment
from alih.errors import NeedsOperator
from alih.model.projection import Direction
from alih.postgres import links
from tests.integration.engine.unlike_shops import SOURCE, TARGET, TEXT
from tests.integration.engine.world import Connection, connected, rows
from tests.support.databases import Databases
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def opened(databases: Databases, directory: Path) -> AsyncIterator[tuple[Migration, Connection, Connection]]:
    """The migration as a command opens it, nothing installed; connections to both sides."""
    async with connected(databases.source) as source, connected(databases.target) as target:
        await source.execute(SOURCE)
        await target.execute(TARGET)
        async with app.opened(contract_in(directory), environment(databases, directory)) as migration:
            yield migration, source, target


def contract_in(directory: Path) -> Path:
    file = directory / "alih.yaml"
    file.write_text(TEXT.replace("tenant: {entity", "control: {dsn: $ALIH_CONTROL}\ntenant: {entity"), encoding="utf-8")
    return file


def environment(databases: Databases, directory: Path) -> Environment:
    dsns = {"ALIH_SOURCE": databases.source, "ALIH_TARGET": databases.target, "ALIH_CONTROL": databases.control}
    return Environment(variables=dsns | {"XDG_STATE_HOME": str(directory)})


async def test_nothing_is_installed_for_a_stream_while_rows_stand_in_the_way(
    databases: Databases, tmp_path: Path
) -> None:
    async with opened(databases, tmp_path) as (migration, source, target):
        await target.execute("INSERT INTO pesanan VALUES (1002, 71, 100, NULL, 'm3')")
        with pytest.raises(NeedsOperator, match=r"orders: 1 row: the target already has .*\(1002\)"):
            await app.install(migration)
        assert (
            await rows(source, "SELECT slot_name FROM pg_replication_slots WHERE database = current_database()") == []
        )
        assert await rows(target, "SELECT count(*) FROM alih.stream") == [(0,)]
        await target.execute("DELETE FROM pesanan WHERE id = 1002")
        await app.install(migration)
        await migration.engine(Direction.FORWARD).copy()
        await app.install(migration)  # what alih wrote is in nobody's way


async def test_check_reads_the_rows_and_changes_nothing(databases: Databases, tmp_path: Path) -> None:
    said: list[str] = []
    async with opened(databases, tmp_path) as (_, source, target):
        await source.execute("INSERT INTO shops VALUES (3, 'Linked to nobody')")
        with pytest.raises(NeedsOperator, match="2 things stand in the rows' way"):
            await faces.check(tmp_path / "alih.yaml", environment(databases, tmp_path), None, said.append, data=True)
        for side in (source, target):
            assert await rows(side, "SELECT nspname FROM pg_namespace WHERE nspname = 'alih'") == []
    assert said[-2:] == [
        "shops: 1 row: shop_id refers to a row of shops that is not linked (3) → link it where the `link:` of shops"
        " reads, on the target",
        "shops: 1 row: title would be longer than 10 characters (3) → widen the target's column, or say under `sql:`"
        " how to shorten it",
    ]
    assert "orders: address keeps its value at the source: the target has only the street" in said


async def test_a_shop_that_is_linked_later_crosses_without_a_restart(databases: Databases, tmp_path: Path) -> None:
    async with opened(databases, tmp_path) as (migration, source, target):
        await app.install(migration)
        await migration.engine(Direction.FORWARD).copy()
        async with asyncio.TaskGroup() as tasks:
            stream = tasks.create_task(following.follow(migration, Direction.FORWARD))
            await source.execute("INSERT INTO shops VALUES (3, 'New')")
            await until(lambda: stopped(target), within_s=20)
            await target.execute("INSERT INTO bindings VALUES (3, 73)")
            await until(lambda: crossed(target), within_s=20)
            stream.cancel()
        linked = app.linked(migration.contract, target)
        assert await linked("shops", "3", Direction.FORWARD) == "73"
        assert await linked("shops", "73", Direction.REVERSE) == "3"
        assert await linked("orders", "3", Direction.FORWARD) == "1003"
        assert await linked("orders", "1003", Direction.REVERSE) == "3"
        assert await linked("orders", "1003; DROP", Direction.REVERSE) is None
        assert await rows(target, "SELECT stopped FROM alih.stream WHERE direction = 'forward'") == [(None,)]


async def test_a_row_that_refers_to_nobody_stops_the_stream_by_name(
    databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "_LINKED_WITHIN", 1)
    async with opened(databases, tmp_path) as (migration, source, target):
        await app.install(migration)
        await migration.engine(Direction.FORWARD).copy()
        await source.execute("INSERT INTO shops VALUES (3, 'Secret'), (4, 'Secret')")
        with pytest.raises(NeedsOperator) as stop:
            await following.follow(migration, Direction.FORWARD)
        assert stop.value.message == "rows refer to what is not linked: shops 3, shops 4"
        ((reason,),) = await rows(target, "SELECT stopped FROM alih.stream WHERE direction = 'forward'")
        assert reason.startswith("rows refer to what is not linked: shops 3, shops 4")


async def stopped(target: Connection) -> bool:
    return await rows(target, "SELECT stopped FROM alih.stream WHERE direction = 'forward'") != [(None,)]


async def crossed(target: Connection) -> bool:
    return await rows(target, "SELECT title FROM merchants WHERE merchant_id = 73") == [("New",)]


AMBIGUOUS: tuple[LiteralString, ...] = (
    "INSERT INTO bindings VALUES (3, 73), (3, 74)",
    "INSERT INTO bindings VALUES (3, 73), (4, 73)",
    "INSERT INTO bindings VALUES (9, 71)",
    "UPDATE bindings SET merchant = 79 WHERE social = 1",
)


async def test_links_are_one_to_one_and_stay_so(databases: Databases, tmp_path: Path) -> None:
    async with opened(databases, tmp_path) as (migration, source, target):
        await app.install(migration)
        assert await links.refresh(source, target, migration.contract.entities) == 0
        for statement in AMBIGUOUS:
            async with target.transaction(force_rollback=True):
                await target.execute(statement)
                with pytest.raises(NeedsOperator, match="the link of shops is not one to one, or has changed"):
                    await links.refresh(source, target, migration.contract.entities)
        await target.execute("INSERT INTO bindings VALUES (3, 74)")  # nothing of the above was kept
        assert await links.refresh(source, target, migration.contract.entities) == 1
        kept: LiteralString = "SELECT source_id, target_id FROM alih.link ORDER BY 1"
        assert await rows(source, kept) == await rows(target, kept) == [("1", "71"), ("2", "72"), ("3", "74")]


async def test_links_without_tenants(databases: Databases, tmp_path: Path) -> None:
    """Then nothing else of alih's is in the source; the links have to be, for the copy reads them there."""
    async with connected(databases.source) as source, connected(databases.target) as target:
        await source.execute(SOURCE)
        await target.execute(TARGET)
        text = re.sub(r"^tenant: .*\n", "", TEXT, flags=re.MULTILINE)
        text = re.sub(r"^    tenant: .*$", "    scope: shared", text, flags=re.MULTILINE)
        (tmp_path / "alih.yaml").write_text(text, encoding="utf-8")
        async with app.opened(tmp_path / "alih.yaml", environment(databases, tmp_path)) as migration:
            await app.install(migration)
            await migration.engine(Direction.FORWARD).copy()
        merchants = await rows(target, "SELECT DISTINCT merchant_id FROM pesanan WHERE channel = 'social' ORDER BY 1")
        assert merchants == [(71,), (72,)]
