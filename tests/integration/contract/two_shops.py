"""Two unlike schemas with rows on real servers, and the contract between them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from alih.contract import Projections, check, compile, load
from alih.model.catalog import Catalog
from alih.model.contract import Contract
from alih.postgres import catalog
from tests.support.databases import Databases

Connection = psycopg.AsyncConnection[tuple[Any, ...]]

LINK = """
    CREATE SCHEMA alih;
    CREATE TABLE alih.link (entity text, source_id text, target_id text,
        PRIMARY KEY (entity, source_id), UNIQUE (entity, target_id));
    INSERT INTO alih.link VALUES ('shops', '1', '7001'), ('shops', '2', '7002');
"""
SOURCE = """
    CREATE TABLE shops (shop_id bigint PRIMARY KEY, name text NOT NULL);
    CREATE TABLE orders (order_id bigint PRIMARY KEY, shop_id bigint NOT NULL REFERENCES shops, status text NOT NULL,
        total_amount numeric(18,2) NOT NULL, address jsonb, "Made At" timestamptz NOT NULL, internal_note text);
    CREATE TABLE order_lines (order_id bigint NOT NULL REFERENCES orders, line_no integer NOT NULL,
        quantity integer NOT NULL, PRIMARY KEY (order_id, line_no));
    INSERT INTO shops VALUES (1, 'Kopi "Tuku"'), (2, 'Batik 50%');
    INSERT INTO orders VALUES
        (11, 1, 'UNPAID', 145000.00, '{"phone": "0812"}', '2024-01-02 03:04:05.678901+07', 'do not tell'),
        (12, 2, 'CANCELLED', 0, '{"phone": null}', '2024-04-12 00:00:00+00', NULL);
    INSERT INTO order_lines VALUES (11, 1, 2), (11, 2, 1), (12, 1, 5);
"""
TARGET = """
    CREATE TABLE seller_bindings (social_shop_id bigint PRIMARY KEY, merchant_id bigint NOT NULL);
    CREATE TABLE toko (merchant_id integer PRIMARY KEY, title varchar(40) NOT NULL);
    CREATE TABLE pesanan (id bigint PRIMARY KEY, merchant_id bigint NOT NULL, status integer NOT NULL,
        amount_idr bigint NOT NULL, buyer_phone text, "made at" timestamptz NOT NULL, channel text NOT NULL);
    CREATE TABLE baris (pesanan_id bigint REFERENCES pesanan, no integer, qty integer NOT NULL,
        PRIMARY KEY (pesanan_id, no));
"""
TEXT = """\
migration: two-shops
source: {kind: postgres, dsn: $SOURCE}
target: {kind: postgres, dsn: $TARGET}
tenant: {entity: shops, key: shop_id}
entities:
  lines:
    from: order_lines
    to: baris
    key: {order_id: pesanan_id, line_no: no}
    tenant: {via: orders, column: order_id}
    purpose: what was sold
    fields: {pesanan_id: order_id, no: line_no, qty: quantity}
  orders:
    from: orders
    to: pesanan
    key: {order_id: id}
    tenant: shop_id
    ours: "channel = 'social'"
    purpose: fulfil and account for the sale
    fields:
      id: order_id
      merchant_id: {link: shops, from: shop_id}
      status: {from: status, map: {UNPAID: 100, CANCELLED: 0}, reverse: {103: UNPAID}}
      amount_idr: {sql: "total_amount::bigint", reverse: "amount_idr::numeric(18,2)"}
      buyer_phone: {sql: "address->>'phone'", data: general}
      "made at": Made At
      channel: {value: social}
    reverse:
      address: "jsonb_build_object('phone', buyer_phone)"
    not_moved: {internal_note: never shown to anyone}
  shops:
    from: shops
    to: toko
    key: {shop_id: merchant_id}
    tenant: shop_id
    link: "SELECT social_shop_id, merchant_id FROM seller_bindings"
    purpose: who sells
    fields:
      merchant_id: {link: shops, from: shop_id}
      title: name
"""


@dataclass(frozen=True, slots=True)
class TwoShops:
    """Connections to both sides as the superuser, the contract, and what it compiles to."""

    source: Connection
    target: Connection
    contract: Contract
    projections: Projections


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Connection]:
    connection = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
    async with connection:
        yield connection


@asynccontextmanager
async def two_shops(databases: Databases, directory: Path) -> AsyncIterator[TwoShops]:
    """Both databases filled, the contract loaded, checked and compiled against them."""
    contract = contract_in(directory, TEXT, databases)
    async with connected(databases.source) as source, connected(databases.target) as target:
        await source.execute(SOURCE + LINK)
        await target.execute(TARGET + LINK)
        here, there = await catalogs(source, target)
        assert check(contract, here, there) == []
        yield TwoShops(source, target, contract, compile(contract, here, there))


def contract_in(directory: Path, text: str, databases: Databases) -> Contract:
    file = directory / "alih.yaml"
    file.write_text(text, encoding="utf-8")
    names = ("SOURCE", "TARGET", "ALIH_SOURCE", "ALIH_TARGET")
    return load(file, {n: databases.source if "SOURCE" in n else databases.target for n in names})


async def catalogs(source: Connection, target: Connection) -> tuple[Catalog, Catalog]:
    return await catalog.read(source), await catalog.read(target)


async def rows(connection: Connection, statement: str) -> Sequence[tuple[Any, ...]]:
    cursor = await connection.execute(statement)
    found: Sequence[tuple[Any, ...]] = await cursor.fetchall()
    return found
