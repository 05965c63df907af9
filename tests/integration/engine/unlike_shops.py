"""Two shops whose tables differ: ids that are linked and offset, values that the target cannot hold."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import LiteralString

from alih import contract as contracts
from alih.model.contract import Contract
from alih.model.side import Side
from alih.model.turn import Turn
from alih.postgres import links, positions
from tests.integration.engine.world import World, connected, drafted
from tests.support.databases import Databases

SOURCE: LiteralString = """
    CREATE TABLE shops (shop_id int PRIMARY KEY, name text NOT NULL);
    CREATE TABLE orders (order_id int PRIMARY KEY, shop_id int NOT NULL REFERENCES shops, status text NOT NULL,
        address jsonb NOT NULL, number text NOT NULL UNIQUE, note text);
    CREATE TABLE lines (order_id int REFERENCES orders, no int, qty int NOT NULL, PRIMARY KEY (order_id, no));
    INSERT INTO shops VALUES (1, 'Kopi'), (2, 'Batik');
    INSERT INTO orders VALUES
        (1, 1, 'UNPAID', '{"street": "Jl. A", "gate": "blue"}', 'n1', 'secret'),
        (2, 1, 'HELD', '{"street": "Jl. B"}', 'n2', NULL), (3, 2, 'PAID', '{"street": "Jl. C"}', 'n3', NULL);
    INSERT INTO lines VALUES (1, 1, 10), (1, 2, 20), (2, 1, 30);
"""
TARGET: LiteralString = """
    CREATE TABLE bindings (social int, merchant int);
    INSERT INTO bindings VALUES (1, 71), (2, 72);
    CREATE TABLE merchants (merchant_id int PRIMARY KEY, title varchar(10) NOT NULL);
    CREATE TABLE pesanan (id int PRIMARY KEY, merchant_id int NOT NULL, state int NOT NULL, street text,
        number text NOT NULL UNIQUE, channel text NOT NULL DEFAULT 'market');
    CREATE TABLE baris (pesanan_id int REFERENCES pesanan, no int, qty int NOT NULL, PRIMARY KEY (pesanan_id, no));
    INSERT INTO pesanan VALUES (1, 71, 100, 'Jl. Own', 'm1'), (2, 90, 100, NULL, 'm2');
"""
TEXT = """\
migration: race
source: {kind: postgres, dsn: $ALIH_SOURCE}
target: {kind: postgres, dsn: $ALIH_TARGET}
tenant: {entity: shops, key: shop_id}
entities:
  shops:
    from: shops
    to: merchants
    key: {shop_id: merchant_id}
    tenant: shop_id
    link: "SELECT social, merchant FROM bindings"
    purpose: who sells
    fields: {merchant_id: {link: shops, from: shop_id}, title: name}
  orders:
    from: orders
    to: pesanan
    key: {order_id: id}
    tenant: shop_id
    offset: 1000
    ours: "channel = 'social'"
    purpose: what was bought
    fields:
      id: {offset: orders, from: order_id}
      merchant_id: {link: shops, from: shop_id}
      state: {from: status, map: {UNPAID: 100, HELD: 100, PAID: 200}, reverse: {103: UNPAID}}
      street: {sql: "address->>'street'", data: general}
      number: number
      channel: {value: social}
    reverse: {address: "jsonb_build_object('street', street)"}
    keep:
      address: the target has only the street
      status: the target does not know that an order is held
    not_moved: {note: never shown to anyone}
  lines:
    from: lines
    to: baris
    key: {order_id: pesanan_id, no: no}
    tenant: {via: orders, column: order_id}
    purpose: what was sold
    fields: {pesanan_id: {offset: orders, from: order_id}, no: no, qty: qty}
"""


@asynccontextmanager
async def two_shops(databases: Databases, directory: Path, text: str = TEXT) -> AsyncIterator[World]:
    """Two unlike shops, the links known, the forward stream opened."""
    async with connected(databases.source) as source, connected(databases.target) as target:
        await source.execute(SOURCE)
        await target.execute(TARGET)
        async with drafted(databases, directory, text, source, target) as world:
            await links.refresh(source, target, loaded(databases, directory).entities)
            yield world


def loaded(databases: Databases, directory: Path) -> Contract:
    return contracts.load(directory / "alih.yaml", {"ALIH_SOURCE": databases.source, "ALIH_TARGET": databases.target})


async def turn(world: World, tenant: str) -> None:
    """What the fence writes into both logs when the target becomes a tenant's owner."""
    for side in (world.source, world.target):
        encoded = Turn(tenant, Side.TARGET, 1).encode()
        await side.execute("SELECT pg_logical_emit_message(true, %s, %s)", (positions.OWNER, encoded))
