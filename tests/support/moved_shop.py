"""A small shop that has moved well: both back ends, the provider and the shoppers' diary agree to the last rupiah.

Tests of the audit spoil one thing in it and expect that thing, and nothing else, to be named.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString

import psycopg

from demo.audit import Audit, Keeper, Opening, Stores, audit, opening
from demo.seed import create_schemas
from demo.shoppers.answers import Line, Placed
from demo.shoppers.diary import Diary
from tests.support.databases import Databases

SHOP, MERCHANT = 1_000_000_001, 7_000_000_009
BUYER, PRODUCT, PRICE_IDR, ON_HAND = 1_000_000_101, 1_000_000_201, 145_000, 50
PAST, FIRST, SECOND, OWN = 1_000_000_301, 1_000_000_302, 1_000_000_303, 7_000_000_301
GATEWAY = "127.0.0.1:8080"

LEGACY_SEED: LiteralString = """
    INSERT INTO shops VALUES (1000000001, 'Toko Kopi', 'Medan', 4.9, 'ACTIVE', 1702339200);
    INSERT INTO buyers VALUES (1000000101, 'Sari', '+62812', 'sari@example.com', 'Medan', 1702339200);
    INSERT INTO products
    VALUES (1000000201, 1000000001, 'Kopi', 'Gayo', 145000, '/static/kopi.svg', 'ACTIVATE', 1702339200);
    INSERT INTO stock VALUES (1000000201, 1000000001, 50)"""
MARKETPLACE_SEED: LiteralString = """
    INSERT INTO merchants VALUES (7000000009, 'PT Kopi', 'Medan', 0, now());
    INSERT INTO seller_bindings VALUES (1000000001, 7000000009, now());
    INSERT INTO users VALUES (1000000101, 'social', 'Sari', '+62812', 'sari@example.com', 'Medan', NULL, now());
    INSERT INTO catalog_items (item_id, merchant_id, channel, title, description, price_idr, picture, listed_at)
    VALUES (1000000201, 7000000009, 'social', 'Kopi', 'Gayo', 145000, '/static/kopi.svg', now());
    INSERT INTO inventory VALUES (1000000201, 7000000009, 'social', 50)"""
LEGACY_ORDER: tuple[LiteralString, ...] = (
    """INSERT INTO orders (order_id, shop_id, buyer_id, status, total_amount, address, create_time)
       VALUES (%(order)s, 1000000001, 1000000101, 'AWAITING_SHIPMENT', %(idr)s,
               '{"name": "", "phone": "", "street": "", "city": ""}', 1702339200)""",
    "INSERT INTO order_lines VALUES (%(order)s, 1, 1000000201, 'Kopi', %(quantity)s, 145000)",
    "UPDATE stock SET on_hand = on_hand - %(sold)s",
    """INSERT INTO charges (charge_id, order_id, payee, method, amount, provider_order_id, status, create_time)
       VALUES (%(order)s, %(order)s, 'social', 'va', %(idr)s, %(reference)s, 'settlement', 1702339200)""",
    """INSERT INTO ledger (entry_id, order_id, shop_id, event, account, debit, credit, create_time)
       VALUES (%(order)s * 2, %(order)s, 1000000001, 'SETTLEMENT', 'CLEARING', %(idr)s, 0, 1702339200),
              (%(order)s * 2 + 1, %(order)s, 1000000001, 'SETTLEMENT', 'SELLER_PAYABLE', 0, %(idr)s, 1702339200)""",
    "INSERT INTO idempotency VALUES (1000000001, %(key)s, 'checkout', %(order)s, NULL, 1702339200)",
)
MARKETPLACE_ORDER: tuple[LiteralString, ...] = (
    """INSERT INTO trade_orders VALUES (%(order)s, 7000000009, %(channel)s, 1000000101, 220, %(idr)s, '', '', '', '',
                                       NULL, now(), now())""",
    "INSERT INTO trade_order_items VALUES (%(order)s, 1, 1000000201, 'Kopi', %(quantity)s, 145000)",
    "UPDATE inventory SET available = available - %(sold)s",
    """INSERT INTO payments VALUES (%(order)s, %(order)s, 'social', 1, %(idr)s, %(reference)s, NULL, NULL, NULL, 2,
                                   now(), now())""",
    """INSERT INTO journal_entries
       VALUES (%(order)s * 2, %(order)s, 7000000009, %(channel)s, 10, 1100, 1, %(idr)s, now()),
              (%(order)s * 2 + 1, %(order)s, 7000000009, %(channel)s, 10, 2100, 2, %(idr)s, now())""",
    "INSERT INTO request_keys VALUES (7000000009, %(key)s, 'checkout', %(channel)s, %(order)s, NULL, now())",
)
CHARGE: LiteralString = """
    INSERT INTO charges (order_id, account, payment_type, gross_amount, transaction_status)
    VALUES (%(reference)s, 'social', 'bank_transfer', %(idr)s, 'settlement')"""

REFUND: dict[str, tuple[LiteralString, ...]] = {
    "legacy": (
        """INSERT INTO refunds VALUES (%(refund)s, %(order)s, %(key)s, %(idr)s, '', 'settled', 1702339200)""",
        """INSERT INTO ledger (entry_id, order_id, shop_id, event, refund_id, account, debit, credit, create_time)
           VALUES (%(refund)s * 2, %(order)s, 1000000001, 'REFUND', %(refund)s, 'CLEARING', 0, %(idr)s, 1702339200),
                  (%(refund)s * 2 + 1, %(order)s, 1000000001, 'REFUND', %(refund)s, 'SELLER_PAYABLE', %(idr)s, 0,
                   1702339200)""",
    ),
    "marketplace": (
        "INSERT INTO payment_refunds VALUES (%(refund)s, %(order)s, %(key)s, %(idr)s, '', 2, now())",
        """INSERT INTO journal_entries
           VALUES (%(refund)s * 2, %(order)s, 7000000009, 'social', 20, 1100, 2, %(idr)s, now(), %(refund)s),
                  (%(refund)s * 2 + 1, %(order)s, 7000000009, 'social', 20, 2100, 1, %(idr)s, now(), %(refund)s)""",
    ),
    "provider": (
        "INSERT INTO refunds (order_id, refund_key, amount, reason) VALUES (%(reference)s, %(key)s, %(idr)s, '')",
    ),
}


def refund(order: int, number: int, idr: int) -> dict[str, Any]:
    """The values of one refund of an order."""
    names = {"reference": f"ORDER-{order}", "key": f"REFUND-{number}"}
    return names | {"order": order, "refund": number, "idr": idr}


def sale(order: int, quantity: int, *, sold: bool = True, channel: str = "social") -> dict[str, Any]:
    """The values of one order; `sold` says whether its pieces leave the stock as it is written."""
    idr = quantity * PRICE_IDR
    names = {"key": f"key-{order}", "reference": f"ORDER-{order}", "channel": channel}
    return names | {"order": order, "quantity": quantity, "idr": idr, "sold": quantity if sold else 0}


@dataclass
class MovedShop:
    """Three databases and a diary, in agreement; `legacy`, `marketplace` and `provider` run SQL to spoil it."""

    stores: Stores
    diary_path: Path
    before: Opening | None = None

    def legacy(self, query: LiteralString, values: dict[str, Any] | None = None) -> None:
        _execute(self.stores.legacy, query, values)

    def marketplace(self, query: LiteralString, values: dict[str, Any] | None = None) -> None:
        _execute(self.stores.marketplace, query, values)

    def provider(self, query: LiteralString, values: dict[str, Any] | None = None) -> None:
        _execute(self.stores.provider, query, values)

    def record(self, keeper: Keeper, values: dict[str, Any]) -> None:
        """Write an order into one back end's books."""
        dsn = self.stores.legacy if keeper is Keeper.LEGACY else self.stores.marketplace
        for query in LEGACY_ORDER if keeper is Keeper.LEGACY else MARKETPLACE_ORDER:
            _execute(dsn, query, values)

    def give_back(self, values: dict[str, Any], *where: str) -> None:
        """Write a refund into the books of `where`, or of all three."""
        for name in where or REFUND:
            for query in REFUND[name]:
                _execute(getattr(self.stores, name), query, values)

    def tell_refund(self, values: dict[str, Any]) -> None:
        """A shopper was told of this refund."""
        ids = {"order_id": str(values["order"]), "refund_id": str(values["refund"])}
        line = json.dumps({"kind": "refund", **ids, "amount_idr": values["idr"], "key": "k"})
        with self.diary_path.open("a", encoding="utf-8") as diary:
            diary.write(f"{line}\n")

    async def audited(self, **given: Any) -> Audit:
        assert self.before is not None
        return await audit(self.diary_path, self.stores, self.before, **given)


def _execute(dsn: str, query: LiteralString, values: dict[str, Any] | None = None) -> None:
    with psycopg.connect(dsn) as connection:
        connection.execute(query, values)


async def moved_shop(databases: Databases, diary_path: Path) -> MovedShop:
    """One past order, one order of the marketplace's own, and two orders told to a shopper, all of them moved."""
    stores = Stores(legacy=databases.source, marketplace=databases.target, provider=databases.control)
    shop = MovedShop(stores, diary_path)
    create_schemas(legacy=stores.legacy, marketplace=stores.marketplace, provider=stores.provider)
    shop.legacy(LEGACY_SEED)
    shop.marketplace(MARKETPLACE_SEED)
    shop.record(Keeper.LEGACY, sale(PAST, 1, sold=False))
    shop.record(Keeper.MARKETPLACE, sale(OWN, 1, sold=False, channel="marketplace"))
    shop.before = await opening(stores)
    shop.record(Keeper.MARKETPLACE, sale(PAST, 1, sold=False))
    with Diary(diary_path).opened() as diary:
        for values in (sale(FIRST, 1), sale(SECOND, 2)):
            for keeper in Keeper:
                shop.record(keeper, values)
            shop.provider(CHARGE, values)
            _tell(diary, values)
    return shop


def _tell(diary: Diary, values: dict[str, Any]) -> None:
    order_id, amount_idr = str(values["order"]), values["idr"]
    ids = {"order_id": order_id, "shop_id": str(SHOP)}
    order = Placed(
        **ids,
        status="UNPAID",
        total_amount=f"{amount_idr}.00",
        items=[Line(str(PRODUCT), values["quantity"])],
        invoice_url="/",
        buyer_id=str(BUYER),
        key=values["key"],
    )
    diary.host(GATEWAY, "a link to /")
    diary.attempt("order", values["key"], **ids)
    diary.request("POST /", GATEWAY, 201, 1.0, "ok")
    diary.order(order)
    diary.attempt("payment", f"pay-{order_id}", **ids)
    diary.payment(order, order_id, amount_idr, f"pay-{order_id}")
    diary.settled(order)
