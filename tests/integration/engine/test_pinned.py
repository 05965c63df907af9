"""Servers whose settings print values otherwise: alih's own sessions do not depend on them."""

from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from alih import contract as contracts
from alih.postgres import catalog
from tests.integration.engine.world import connected, drafted, following, rows
from tests.support.databases import Databases

pytestmark = pytest.mark.anyio

SETTINGS = {
    "source": {"timezone": "Asia/Jakarta", "datestyle": "SQL, DMY", "bytea_output": "escape"},
    "target": {"timezone": "America/New_York", "datestyle": "German", "extra_float_digits": "-4"},
}


def unlike(databases: Databases) -> None:
    """Give each database settings of its own; sessions that begin later have them."""
    for side, settings in SETTINGS.items():
        dsn = getattr(databases, side)
        with psycopg.connect(dsn, autocommit=True) as admin:
            name = sql.Identifier(admin.info.dbname)
            for setting, value in settings.items():
                admin.execute(
                    sql.SQL("ALTER DATABASE {} SET {} = {}").format(name, sql.Identifier(setting), sql.Literal(value))
                )


async def test_copy_log_and_verification_print_values_alike(databases: Databases, tmp_path: Path) -> None:
    unlike(databases)
    async with connected(databases.source) as source, connected(databases.target) as target:
        await source.execute("CREATE TABLE sold (id bigint PRIMARY KEY, at timestamptz, price float8, photo bytea)")
        await target.execute("CREATE TABLE sold (id bigint PRIMARY KEY, at text, price text, photo text)")
        text = contracts.draft("race", await catalog.read(source), await catalog.read(source))
        for column in ("at", "price", "photo"):
            text = text.replace(f"{column}: {column}", f'{column}: {{sql: "{column}::text"}}', 1)
        row = "'2026-11-24 00:30:00+07', 0.30000000000000004, '\\x00ff'"
        async with drafted(databases, tmp_path, text, source, target) as world:
            await source.execute(sql.SQL("INSERT INTO sold VALUES (1, {})").format(sql.SQL(row)))
            await world.engine().copy()
            async with following(world.engine()):
                await source.execute(sql.SQL("INSERT INTO sold VALUES (2, {})").format(sql.SQL(row)))
                await world.caught_up()
                assert (await world.verified()).clean
        printed = ("2026-11-23 17:30:00+00", "0.30000000000000004", "\\x00ff")
        assert await rows(target, "SELECT * FROM sold ORDER BY id") == [(1, *printed), (2, *printed)]
