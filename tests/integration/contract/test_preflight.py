"""Preflight's statements are enough: run by a superuser, nothing is missing any more, and alih's role is none."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest

from alih.model.side import Side
from alih.postgres.preflight import Need, missing
from tests.integration.contract.two_shops import Connection, TwoShops, connected, rows, two_shops
from tests.support.databases import Databases

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def as_mover(dsn: str) -> AsyncIterator[Connection]:
    async with connected(f"{dsn} user=mover") as mover:
        yield mover


async def needs(connection: Connection, shops: TwoShops, side: Side) -> list[Need]:
    projections = [*shops.projections.forward, *shops.projections.reverse]
    return await missing(connection, shops.contract, projections, side)


async def owned_by_the_shop(admin: Connection) -> None:
    await admin.execute("CREATE ROLE shop; CREATE ROLE mover LOGIN; DROP SCHEMA alih CASCADE")
    for (table,) in await rows(admin, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
        await admin.execute(psycopg.sql.SQL("ALTER TABLE {} OWNER TO shop").format(psycopg.sql.Identifier(table)))


@pytest.mark.parametrize("side", list(Side))
async def test_the_statements_are_all_that_a_plain_role_lacks(databases: Databases, tmp_path: Path, side: Side) -> None:
    async with two_shops(databases, tmp_path) as shops:
        admin, dsn = (shops.source, databases.source) if side is Side.SOURCE else (shops.target, databases.target)
        await owned_by_the_shop(admin)
        async with as_mover(dsn) as mover:
            first = await needs(mover, shops, side)
        assert {n.sql.split(" ON ")[0] for n in first} >= {
            'ALTER ROLE "mover" REPLICATION',
            "GRANT SET",
        }
        assert all(n.sql for n in first)
        for need in first:
            await admin.execute(need.sql)
        async with as_mover(dsn) as mover:
            assert await needs(mover, shops, side) == []


async def test_exact_statements_for_the_source(databases: Databases, tmp_path: Path) -> None:
    async with two_shops(databases, tmp_path) as shops:
        await owned_by_the_shop(shops.source)
        [(database,)] = await rows(shops.source, "SELECT current_database()")
        async with as_mover(databases.source) as mover:
            found = [n.sql for n in await needs(mover, shops, Side.SOURCE)]
        orders = '"order_id", "shop_id", "status", "total_amount", "address", "Made At"'
        assert found[:4] == [
            'ALTER ROLE "mover" REPLICATION',
            f'GRANT CREATE ON DATABASE "{database}" TO "mover"',
            'GRANT pg_read_all_stats TO "mover"',
            'GRANT SET ON PARAMETER session_replication_role TO "mover"',
        ]
        first = next(i for i, statement in enumerate(found) if "orders" in statement)
        assert found[first : first + 4] == [
            f'GRANT SELECT ("xmin", {orders}) ON "public"."orders" TO "mover"',
            f'GRANT INSERT ({orders}) ON "public"."orders" TO "mover"',
            f'GRANT UPDATE ({orders}) ON "public"."orders" TO "mover"',
            'GRANT DELETE ON "public"."orders" TO "mover"',
        ]
        tables = f'"public"."shops" ("shop_id", "name"), "public"."orders" ({orders}), "public"."order_lines"'
        assert found[-1] == (
            f'CREATE PUBLICATION "alih_two_shops_forward" FOR TABLE {tables} ("order_id", "line_no", "quantity")'
            " WITH (publish_via_partition_root = true)"
        )
        assert "internal_note" not in "".join(found)


async def test_a_publication_that_offers_too_much_is_named(databases: Databases, tmp_path: Path) -> None:
    async with two_shops(databases, tmp_path) as shops:
        await shops.source.execute("CREATE PUBLICATION alih_two_shops_forward FOR TABLE shops, orders, order_lines")
        found = await needs(shops.source, shops, Side.SOURCE)
        assert [n.why for n in found] == ["the publication offers other columns than the contract"]
        for statement in found[0].sql.split("; "):
            await shops.source.execute(statement)
        assert await needs(shops.source, shops, Side.SOURCE) == []


async def test_hidden_rows_are_named(databases: Databases, tmp_path: Path) -> None:
    async with two_shops(databases, tmp_path) as shops:
        await owned_by_the_shop(shops.source)
        await shops.source.execute("ALTER TABLE shops ENABLE ROW LEVEL SECURITY")
        async with as_mover(databases.source) as mover:
            found = await needs(mover, shops, Side.SOURCE)
        assert [n for n in found if "BYPASSRLS" in n.sql] == [
            Need('ALTER ROLE "mover" BYPASSRLS', "public.shops hides rows from the role", blocking=True)
        ]


async def test_nothing_is_changed_by_looking(databases: Databases, tmp_path: Path) -> None:
    async with two_shops(databases, tmp_path) as shops:
        counts = "SELECT (SELECT count(*) FROM pg_publication), (SELECT count(*) FROM pg_replication_slots)"
        before = await rows(shops.source, counts)
        assert await needs(shops.source, shops, Side.SOURCE) == []
        assert await rows(shops.source, counts) == before
