"""The books of both back ends and of the payment provider, each read in one snapshot, in one common form."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import LiteralString, Self, TypeVar

import psycopg
from psycopg.rows import class_row

from demo.audit.queries import LEGACY, MARKETPLACE, PROVIDER, Queries

Row = TypeVar("Row")


class Keeper(StrEnum):
    """Who keeps a book."""

    LEGACY = "legacy"
    MARKETPLACE = "marketplace"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """Where the three databases are."""

    legacy: str
    marketplace: str
    provider: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """An order in a back end's books."""

    order_id: str
    shop_id: str
    channel: str
    amount_idr: int
    paid: bool


@dataclass(frozen=True, slots=True)
class Line:
    order_id: str
    product_id: str
    quantity: int


@dataclass(frozen=True, slots=True)
class Charge:
    """A charge in a back end's books; `reference` is what the provider calls it."""

    charge_id: str
    order_id: str
    amount_idr: int
    reference: str


@dataclass(frozen=True, slots=True)
class Booking:
    """An order's entries in the ledger: their balance, and what was booked as received."""

    order_id: str
    balance_idr: int
    booked_idr: int
    entries: list[str]


@dataclass(frozen=True, slots=True)
class Key:
    shop_id: str
    key: str
    order_id: str


@dataclass(frozen=True, slots=True)
class OnHand:
    product_id: str
    shop_id: str
    on_hand: int


@dataclass(frozen=True, slots=True)
class Collected:
    """A charge in the provider's own books."""

    reference: str
    amount_idr: int
    settled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """All that one back end has recorded; `orders` of the social channel, `own` of its own."""

    orders: dict[str, Recorded]
    own: dict[str, Recorded]
    lines: dict[str, Counter[str]]
    charges: dict[str, Charge]
    bookings: dict[str, Booking]
    keys: list[Key]
    stock: dict[str, OnHand]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What stood in the books before the first shopper came: order → rupiah, product → pieces, provider's charges."""

    orders: Mapping[str, int]
    own: Mapping[str, int]
    booked: Mapping[str, int]
    stock: Mapping[str, int]
    collected: list[str]

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        return cls(**json.loads(path.read_text(encoding="utf-8")))


async def opening(stores: Stores) -> Opening:
    """Take the opening balance: after the seed, before the load."""
    legacy = await back_end(stores.legacy, LEGACY)
    marketplace = await back_end(stores.marketplace, MARKETPLACE)
    return Opening(
        orders={order.order_id: order.amount_idr for order in legacy.orders.values()},
        own={order.order_id: order.amount_idr for order in marketplace.own.values()},
        booked={each.order_id: each.booked_idr for each in (*legacy.bookings.values(), *marketplace.bookings.values())},
        stock={product: each.on_hand for product, each in legacy.stock.items()},
        collected=[charge.reference for charge in await provider(stores.provider)],
    )


async def both(stores: Stores) -> dict[Keeper, Books]:
    """The books of both back ends as they are now."""
    return {
        Keeper.LEGACY: await back_end(stores.legacy, LEGACY),
        Keeper.MARKETPLACE: await back_end(stores.marketplace, MARKETPLACE),
    }


async def back_end(dsn: str, queries: Queries) -> Books:
    """One back end's books, in one snapshot."""
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        orders = await _rows(connection, queries.orders, Recorded)
        return Books(
            orders={each.order_id: each for each in orders if each.channel == "social"},
            own={each.order_id: each for each in orders if each.channel != "social"},
            lines=_by_order(await _rows(connection, queries.lines, Line)),
            charges={each.charge_id: each for each in await _rows(connection, queries.charges, Charge)},
            bookings={each.order_id: each for each in await _rows(connection, queries.bookings, Booking)},
            keys=await _rows(connection, queries.keys, Key),
            stock={each.product_id: each for each in await _rows(connection, queries.stock, OnHand)},
        )


async def provider(dsn: str) -> list[Collected]:
    """The provider's charges, oldest or newest as they come."""
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        return await _rows(connection, PROVIDER, Collected)


async def _rows(connection: psycopg.AsyncConnection, query: LiteralString, form: type[Row]) -> list[Row]:
    async with connection.cursor(row_factory=class_row(form)) as cursor:
        await cursor.execute(query)
        return await cursor.fetchall()


def _by_order(lines: list[Line]) -> dict[str, Counter[str]]:
    orders: dict[str, Counter[str]] = {}
    for line in lines:
        orders.setdefault(line.order_id, Counter())[line.product_id] += line.quantity
    return orders
