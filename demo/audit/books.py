"""The books of both back ends and of the payment provider, each read in one snapshot, in one common form."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

import psycopg
from psycopg.rows import class_row


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
    """An order in a back end's books. `entries` are the ledger's of money received, `booked_idr` their sum less what
    was given back."""

    order_id: str
    shop_id: str  # as the social side knows it
    social: bool
    amount_idr: int
    paid: bool
    lines: list[Any]  # [product, quantity]
    keys: list[str]
    charge_id: str | None
    reference: str | None  # what the provider calls the charge
    entries: list[str]
    booked_idr: int
    balance_idr: int
    refunds: list[Any]  # [refund, what the provider calls it, rupiah] of those that were given


@dataclass(frozen=True, slots=True)
class Collected:
    """A charge in the provider's own books."""

    order_id: str
    reference: str
    amount_idr: int
    settled: bool
    refunds: list[Any]  # [key, rupiah]

    @property
    def kept_idr(self) -> int:
        """What was received less what was given back."""
        return self.amount_idr - sum(idr for _, idr in self.refunds) if self.settled else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """All that one back end has recorded; `orders` of the social channel, `own` of its own."""

    orders: dict[str, Recorded]
    own: dict[str, Recorded]
    stock: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What stood in the books before the first shopper came: order → rupiah, product → pieces."""

    orders: Mapping[str, int]
    own: Mapping[str, int]
    booked: Mapping[str, int]
    stock: Mapping[str, int]

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        return cls(**json.loads(path.read_text(encoding="utf-8")))


async def opening(stores: Stores) -> Opening:
    """Take the opening balance: after the seed, before the load."""
    legacy, marketplace = (await both(stores)).values()
    return Opening(
        orders={order_id: order.amount_idr for order_id, order in legacy.orders.items()},
        own={order_id: order.amount_idr for order_id, order in marketplace.own.items()},
        booked={order_id: order.booked_idr for order_id, order in (legacy.orders | marketplace.own).items()},
        stock=legacy.stock,
    )


async def both(stores: Stores) -> dict[Keeper, Books]:
    """The books of both back ends as they are now."""
    dsns = {Keeper.LEGACY: stores.legacy, Keeper.MARKETPLACE: stores.marketplace}
    return {keeper: await _back_end(dsn, keeper) for keeper, dsn in dsns.items()}


async def _back_end(dsn: str, keeper: Keeper) -> Books:
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        await connection.set_isolation_level(psycopg.IsolationLevel.REPEATABLE_READ)
        cursor = connection.cursor(row_factory=class_row(Recorded))
        orders = await (await cursor.execute(_query(f"{keeper}_orders"))).fetchall()
        stock = await (await connection.execute(_query(f"{keeper}_stock"))).fetchall()
    return Books(
        orders={order.order_id: order for order in orders if order.social},
        own={order.order_id: order for order in orders if not order.social},
        stock=dict(stock),
    )


async def provider(dsn: str) -> list[Collected]:
    """The provider's charges."""
    async with await psycopg.AsyncConnection.connect(dsn) as connection:
        cursor = connection.cursor(row_factory=class_row(Collected))
        return await (await cursor.execute(_query("provider_charges"))).fetchall()


def _query(name: str) -> bytes:
    return Path(__file__).with_name(f"{name}.sql").read_bytes()
