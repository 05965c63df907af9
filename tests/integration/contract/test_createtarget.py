"""Identical tables on the target, and a draft between equal schemas that runs as it is."""

from pathlib import Path

import pytest

from alih.contract import check, compile, draft
from alih.errors import NeedsOperator
from alih.model.catalog import TableInfo
from alih.model.contract import Table
from alih.postgres import catalog
from alih.postgres.createtarget import create
from tests.integration.contract.two_shops import catalogs, connected, contract_in, rows
from tests.support.databases import Databases

pytestmark = pytest.mark.anyio

SOURCE = """
    CREATE TABLE customers (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text NOT NULL UNIQUE);
    CREATE TABLE sales (
        id serial PRIMARY KEY, customer_id bigint NOT NULL REFERENCES customers,
        "Amount" numeric(18,2) DEFAULT 0 NOT NULL,
        tax numeric(18,2) GENERATED ALWAYS AS ("Amount" * 0.11) STORED, code char(3), CHECK ("Amount" >= 0));
    CREATE INDEX by_customer ON sales (customer_id) WHERE code IS NOT NULL;
    CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
    CREATE TRIGGER watch BEFORE INSERT ON sales FOR EACH ROW EXECUTE FUNCTION nothing();
    CREATE TABLE history (note text);
"""
SALES, CUSTOMERS = Table("public", "sales"), Table("public", "customers")
DEFINITIONS = """
    SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE contype IN ('p', 'u', 'c')
       AND conrelid::regclass::text IN ('sales', 'customers')
    UNION ALL SELECT indexname, indexdef FROM pg_indexes WHERE tablename IN ('sales', 'customers') ORDER BY 1, 2
"""


def shape(table: TableInfo) -> list[tuple[str, str, bool, bool]]:
    return [(c.name, c.full_type, c.not_null, c.generated) for c in table.columns]


async def test_identical_tables_and_what_is_not_carried(databases: Databases) -> None:
    async with connected(databases.source) as source, connected(databases.target) as target:
        await source.execute(SOURCE)
        left = await create(source, target, [CUSTOMERS, SALES])
        assert left == [
            "public.customers: column id draws from a sequence at the source; its numbers cross, new ones do not",
            "public.customers: privileges and owner",
            "public.sales: column id draws from a sequence at the source; its numbers cross, new ones do not",
            "public.sales: foreign key sales_customer_id_fkey"
            " (FOREIGN KEY (customer_id) REFERENCES public.customers(id))",
            "public.sales: trigger watch",
            "public.sales: privileges and owner",
        ]
        assert await rows(target, DEFINITIONS) == await rows(source, DEFINITIONS)
        here, there = await catalogs(source, target)
        for table in (CUSTOMERS, SALES):
            assert shape(here.tables[table]) == shape(there.tables[table])
        amount = there.tables[SALES].column("Amount")
        assert amount is not None
        assert amount.default == "0"


async def test_a_second_time_changes_nothing(databases: Databases) -> None:
    async with connected(databases.source) as source, connected(databases.target) as target:
        await source.execute(SOURCE)
        await create(source, target, [CUSTOMERS])
        await target.execute("INSERT INTO customers (id, email) VALUES (1, 'a')")
        assert await create(source, target, [CUSTOMERS]) == ["public.customers: is there already and was left as it is"]
        assert await rows(target, "SELECT count(*) FROM customers") == [(1,)]


async def test_all_or_none(databases: Databases) -> None:
    async with connected(databases.source) as source, connected(databases.target) as target:
        await source.execute(SOURCE)
        with pytest.raises(NeedsOperator):
            await create(source, target, [CUSTOMERS, Table("public", "absent")])
        assert (await catalog.read(target)).tables == {}


async def test_a_draft_between_equal_schemas_runs_as_it_is(databases: Databases, tmp_path: Path) -> None:
    async with connected(databases.source) as source, connected(databases.target) as target:
        await source.execute(SOURCE)
        await create(source, target, [CUSTOMERS, SALES])
        here, there = await catalogs(source, target)
        text = draft("equal", here, there)
        contract = contract_in(tmp_path, text, databases)
        assert check(contract, here, there) == []
        assert [p.entity for p in compile(contract, here, there).reverse] == ["customers", "sales"]
        assert contract.tables_not_moved == {
            "public.history": "no primary key: to move it, add one at the source and the target, then draft again"
        }
        assert "email: {from: email, data: general}  # decide: classed by its name" in text
        assert contract.entity("sales").not_moved == {"tax": "made from other columns"}


async def test_pgbench_comes_out_ready_to_run(databases: Databases, tmp_path: Path) -> None:
    for dsn in (databases.source, databases.target):
        async with connected(dsn) as connection:
            await connection.execute(
                "CREATE TABLE pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));"
                "CREATE TABLE pgbench_tellers (tid int PRIMARY KEY, bid int, tbalance int, filler char(84));"
                "CREATE TABLE pgbench_accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84));"
                "CREATE TABLE pgbench_branches (bid int PRIMARY KEY, bbalance int, filler char(88));"
            )
    async with connected(databases.source) as source, connected(databases.target) as target:
        here, there = await catalogs(source, target)
        contract = contract_in(tmp_path, draft("bench", here, there), databases)
        assert check(contract, here, there) == []
        assert [e.name for e in contract.entities] == ["pgbench_accounts", "pgbench_branches", "pgbench_tellers"]
        assert list(contract.tables_not_moved) == ["public.pgbench_history"]
