"""The marketplace before the move: an account for every seller, and the long-standing ones' own trade."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
from faker import Faker

from demo.seed import goods
from demo.seed.databases import copy_in
from demo.seed.legacy import OPENED, Product, Row, Shop, products_of
from demo.services.shop import FEE_PERCENT

FIRST_ID = 7_000_000_001
OWN_USERS = 400
LONG_STANDING = 5  # every fifth seller
ORDERS_OF_SELLER = 34

_OPENED = datetime.fromtimestamp(OPENED, UTC)


def fill_marketplace(
    conn: psycopg.Connection, rng: random.Random, fake: Faker, shops: tuple[Shop, ...]
) -> dict[int, int]:
    """Write accounts, bindings and the marketplace's own sales; returns merchant ids by shop id."""
    ids = rng.sample(range(FIRST_ID, FIRST_ID + len(shops)), len(shops))  # no order that anybody could compute
    merchants = dict(zip((shop.id for shop in shops), ids, strict=True))
    tiers = ((shop, int(i % LONG_STANDING == 0)) for i, shop in enumerate(shops))
    accounts = ((merchants[shop.id], f"UD {shop.name}", shop.city, tier, _OPENED) for shop, tier in tiers)
    copy_in(conn, "merchants", "merchant_id legal_name city tier opened_at", accounts)
    bindings = ((shop, merchant, _OPENED) for shop, merchant in merchants.items())
    copy_in(conn, "seller_bindings", "social_shop_id merchant_id bound_at", bindings)
    copy_in(conn, "users", "user_id channel full_name phone_number email city national_id joined_at", _users(rng, fake))
    _fill_own_trade(conn, rng, [merchants[shop.id] for shop in shops[::LONG_STANDING]])
    return merchants


def _users(rng: random.Random, fake: Faker) -> Iterator[Row]:
    for i in range(OWN_USERS):
        phone, city = f"+6285{rng.randrange(10**8, 10**9)}", rng.choice(goods.CITIES)
        nik = f"32{rng.randrange(10**14):014d}"
        yield FIRST_ID + i, "marketplace", fake.name(), phone, f"user{i + 1}@example.net", city, nik, _OPENED


def _fill_own_trade(conn: psycopg.Connection, rng: random.Random, sellers: list[int]) -> None:
    catalog = {seller: _products(rng, place) for place, seller in enumerate(sellers)}
    columns = "item_id merchant_id channel title description price_idr picture listed_at"
    items = [(seller, product) for seller, products in catalog.items() for product in products]
    copy_in(conn, "catalog_items", columns, (_item_row(seller, product) for seller, product in items))
    stock = ((product.id, seller, "marketplace", rng.randrange(10, 500)) for seller, product in items)
    copy_in(conn, "inventory", "item_id merchant_id channel available", stock)
    sales = [(seller, rng.choice(catalog[seller])) for seller in sellers for _ in range(ORDERS_OF_SELLER)]
    orders = list(enumerate(sales, FIRST_ID))
    columns = "order_id merchant_id channel user_id status amount_idr recipient_name recipient_phone recipient_street"
    rows = (_order_row(rng, number, *sale) for number, sale in orders)
    copy_in(conn, "trade_orders", f"{columns} recipient_city awb created_at paid_at", rows)
    lines = ((number, 1, product.id, product.title, 1, product.price_idr) for number, (_, product) in orders)
    copy_in(conn, "trade_order_items", "order_id position item_id title qty price_idr", lines)
    columns = "payment_id order_id payee method amount_idr gateway_reference state created_at settled_at"
    copy_in(conn, "payments", columns, (_payment_row(number, product) for number, (_, product) in orders))
    columns = "entry_id order_id merchant_id channel event account side amount_idr booked_at"
    copy_in(conn, "journal_entries", columns, (row for number, sale in orders for row in _journal(number, *sale)))


def _products(rng: random.Random, place: int) -> tuple[Product, ...]:
    kind = goods.ALL[place % len(goods.ALL)]
    return products_of(rng, kind, FIRST_ID + place * len(kind.titles))


def _item_row(seller: int, product: Product) -> Row:
    picture = f"/static/{product.picture}.svg"
    return product.id, seller, "marketplace", product.title, product.title, product.price_idr, picture, _OPENED


def _order_row(rng: random.Random, number: int, seller: int, product: Product) -> Row:
    time = _OPENED + timedelta(hours=number % 4_000)
    user, street = FIRST_ID + rng.randrange(OWN_USERS), f"Jalan Kenanga {rng.randint(1, 200)}"
    to = ("Penerima", "+62850000000", street, rng.choice(goods.CITIES))
    return number, seller, "marketplace", user, 700, product.price_idr, *to, f"AWB{number}", time, time


def _payment_row(number: int, product: Product) -> Row:
    time = _OPENED + timedelta(hours=number % 4_000)
    return number, number, "marketplace", 1, product.price_idr, f"OWN-{number}", 2, time, time


def _journal(number: int, seller: int, product: Product) -> Iterator[Row]:
    fee = product.price_idr * FEE_PERCENT // 100
    booked = ((1100, 1, product.price_idr), (2100, 2, product.price_idr - fee), (4100, 2, fee))
    time = _OPENED + timedelta(hours=number % 4_000)
    for entry, (account, side, amount) in enumerate(booked, FIRST_ID + (number - FIRST_ID) * len(booked)):
        yield entry, number, seller, "marketplace", 10, account, side, amount, time
