"""Two databases with the fence up: three shops, their orders with lines, and vouchers that all shops share.

On the target the orders of the shops' own accounts stand beside the moved ones; those are not `ours`.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString

import psycopg

from alih import contract as contracts
from alih.contract import Projections
from alih.model.side import Side
from alih.postgres import catalog, fence
from alih.postgres.fence import Fence
from alih.postgres.installation import install_schema
from alih.postgres.line import Line
from tests.support.databases import Databases

Connection = psycopg.AsyncConnection[tuple[Any, ...]]

APP = "shop_app"
"""The shop's own role: rights on its tables, none on the schema alih."""

_TABLES: LiteralString = """
    CREATE TABLE shops (shop_id bigint PRIMARY KEY, name text NOT NULL);
    CREATE TABLE orders (order_id bigint PRIMARY KEY, shop_id bigint NOT NULL REFERENCES shops ON DELETE CASCADE,
        status text NOT NULL, channel text NOT NULL DEFAULT 'social');
    CREATE TABLE lines (order_id bigint NOT NULL REFERENCES orders ON DELETE CASCADE, line_no int NOT NULL,
        PRIMARY KEY (order_id, line_no));
    CREATE TABLE vouchers (voucher_id bigint PRIMARY KEY, used boolean NOT NULL);
    CREATE TABLE plans (plan_id bigint PRIMARY KEY);
    INSERT INTO shops SELECT n, 'toko ' || n FROM generate_series(1, 3) n;
    INSERT INTO orders SELECT n * 10, n, 'PAID' FROM generate_series(1, 3) n;
    INSERT INTO lines SELECT n * 10, 1 FROM generate_series(1, 3) n;
    INSERT INTO vouchers VALUES (1, false);
    CREATE ROLE shop_app LOGIN;
    GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA public TO shop_app;
"""
_EMPTY: LiteralString = """
    SET client_min_messages = warning;
    DROP SCHEMA alih, public CASCADE;
    CREATE SCHEMA public;
    GRANT USAGE ON SCHEMA public TO PUBLIC;
    DROP OWNED BY shop_app;
    DROP ROLE shop_app;
"""
_CONTRACT = """\
migration: fenced
source: {kind: postgres, dsn: $SOURCE}
target: {kind: postgres, dsn: $TARGET}
tenant: {entity: shops, key: shop_id}
entities:
  shops:
    from: shops
    to: shops
    key: {shop_id: shop_id}
    tenant: shop_id
    purpose: who sells
    fields: {shop_id: shop_id, name: name}
  orders:
    from: orders
    to: orders
    key: {order_id: order_id}
    tenant: shop_id
    ours: "channel = 'social'"
    purpose: fulfil
    fields: {order_id: order_id, shop_id: shop_id, status: status, channel: {value: social}}
    not_moved: {channel: the target has its own}
  lines:
    from: lines
    to: lines
    key: {order_id: order_id, line_no: line_no}
    tenant: {via: orders, column: order_id}
    purpose: what was sold
    fields: {order_id: order_id, line_no: line_no}
  vouchers:
    from: vouchers
    to: vouchers
    key: {voucher_id: voucher_id}
    scope: shared
    purpose: discounts over several shops
    fields: {voucher_id: voucher_id, used: used}
  plans:
    from: plans
    to: plans
    key: {plan_id: plan_id}
    scope: reference
    purpose: what both sides look up
    fields: {plan_id: plan_id}
"""


@dataclass(frozen=True, slots=True)
class FencedShop:
    """A superuser's connection to each side, the fences, and what the contract compiles to."""

    dsns: Mapping[Side, str]
    admins: Mapping[Side, Connection]
    fences: Mapping[Side, Fence]
    projections: Projections

    @asynccontextmanager
    async def app(self, side: Side, *, isolation: str = "read committed", user: str = APP) -> AsyncIterator[Connection]:
        """A connection of the shop's, not in autocommit."""
        options = f"-c default_transaction_isolation={isolation.replace(' ', chr(92) + ' ')}"
        async with await psycopg.AsyncConnection.connect(self.dsns[side], user=user, options=options) as connection:
            try:
                yield connection
            finally:
                await connection.rollback()

    async def move(self, tenant: str, epoch: int = 1) -> None:
        """Turn the owner rows as a cutover does."""
        await self.fences[Side.SOURCE].close(tenant, epoch)
        await self.fences[Side.TARGET].open(tenant, epoch)

    async def rows(self, side: Side, query: LiteralString) -> Sequence[tuple[Any, ...]]:
        return await (await self.admins[side].execute(query)).fetchall()


@asynccontextmanager
async def fenced_shop(databases: Databases, directory: Path) -> AsyncIterator[FencedShop]:
    """The shop, in databases that are empty before and after."""
    dsns = {Side.SOURCE: databases.source, Side.TARGET: databases.target}
    async with AsyncExitStack() as stack:
        admins = {side: await stack.enter_async_context(await _connected(dsn)) for side, dsn in dsns.items()}
        for admin in admins.values():
            await admin.execute(_TABLES)
        projections = await compiled(databases, admins, directory)
        for side, reading in ((Side.SOURCE, projections.forward), (Side.TARGET, projections.reverse)):
            await install_schema(admins[side], "fenced", side)
            await fence.register(admins[side], ["1", "2", "3"])
            await fence.put_up(admins[side], reading, "shops")
        lines = {side: await stack.enter_async_context(Line(dsn, f"the {side}")) for side, dsn in dsns.items()}
        fences = {side: Fence(line, side) for side, line in lines.items()}
        try:
            yield FencedShop(dsns, admins, fences, projections)
        finally:
            for admin in admins.values():
                await admin.execute(_EMPTY)


async def compiled(databases: Databases, admins: Mapping[Side, Connection], directory: Path) -> Projections:
    file = directory / "alih.yaml"
    file.write_text(_CONTRACT, encoding="utf-8")
    contract = contracts.load(file, {"SOURCE": databases.source, "TARGET": databases.target})
    here, there = [await catalog.read(admins[side]) for side in Side]
    assert contracts.check(contract, here, there) == []
    return contracts.compile(contract, here, there)


async def _connected(dsn: str) -> Connection:
    return await psycopg.AsyncConnection.connect(dsn, autocommit=True)


async def state_of(connection: Connection, statement: LiteralString) -> str:
    """The SQLSTATE with which the server refuses the statement, `00000` if it does not."""
    try:
        await connection.execute(statement)
    except psycopg.Error as refused:
        return refused.sqlstate or ""
    return "00000"


async def answer(shop: FencedShop, side: Side, statement: LiteralString) -> str:
    """The same for a whole transaction of the shop's own role."""
    async with shop.app(side) as app:
        state = await state_of(app, statement)
        if state == "00000":
            await app.commit()
        return state


WRITES: tuple[LiteralString, ...] = (
    "UPDATE shops SET name = name WHERE shop_id = 1",
    "INSERT INTO orders VALUES (11, 1, 'UNPAID')",
    "UPDATE orders SET status = 'SHIPPED' WHERE shop_id = 1",
    "DELETE FROM orders WHERE shop_id = 1",
    "DELETE FROM shops WHERE shop_id = 1",
    "INSERT INTO lines VALUES (10, 2)",
    "UPDATE lines SET line_no = 3 WHERE order_id = 10",
    "DELETE FROM lines WHERE order_id = 10",
    "UPDATE orders SET status = 'SHIPPED'",
    "INSERT INTO orders VALUES (10, 1, 'UNPAID') ON CONFLICT (order_id) DO UPDATE SET status = 'SHIPPED'",
    "MERGE INTO orders o USING (VALUES (10)) v (id) ON o.order_id = v.id WHEN MATCHED THEN UPDATE SET status = 'X'",
)
