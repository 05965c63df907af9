"""Half a year of the social shop."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import psycopg
from faker import Faker

from demo.seed import goods
from demo.seed.databases import copy_in
from demo.services.payments import reference
from demo.services.shop import FEE_PERCENT

FIRST_ID = 1_000_000_001
OPENED = 1_686_000_000  # June 2023
CLOSED = 1_702_300_000  # 11 December 2023, the day before the shop reopened
STATUSES = {
    "COMPLETED": 850, "DELIVERED": 50, "IN_TRANSIT": 40, "AWAITING_COLLECTION": 20, "AWAITING_SHIPMENT": 20,
    "CANCELLED": 15, "UNPAID": 5,
}  # fmt: skip
UNPAID = frozenset({"UNPAID", "CANCELLED"})

Row = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Product:
    id: int
    title: str
    price_idr: int
    picture: str


@dataclass(frozen=True, slots=True)
class Shop:
    id: int
    name: str
    city: str
    products: tuple[Product, ...]


@dataclass(frozen=True, slots=True)
class Order:
    """A past order; `lines` are (product, quantity)."""

    id: int
    shop: Shop
    buyer: int
    status: str
    time: int
    lines: tuple[tuple[Product, int], ...]

    @property
    def total(self) -> int:
        return sum(product.price_idr * quantity for product, quantity in self.lines)

    @property
    def paid(self) -> bool:
        return self.status not in UNPAID

    @property
    def fee(self) -> int:
        return self.total * FEE_PERCENT // 100


def fill_legacy(
    conn: psycopg.Connection, rng: random.Random, fake: Faker, *, shops: int, test_shops: int, buyers: int, orders: int
) -> tuple[tuple[Shop, ...], tuple[int, ...]]:
    """Write shops, buyers and their past, within the caller's transaction; the shops, and the buyers' ids. The last
    `test_shops` shops and the last buyer have no past."""
    made = tuple(_shops(rng, fake, shops))
    people = list(_people(rng, fake, buyers))
    _copy_shops(conn, rng, made)
    copy_in(conn, "buyers", "buyer_id name phone email city create_time card_token", people)
    reviews = ((FIRST_ID + i, person[0], "watch: returns often") for i, person in enumerate(people[::15]))
    copy_in(conn, "risk_reviews", "review_id buyer_id verdict", reviews)
    trading = made[: shops - test_shops]
    past = list(_orders(rng, trading, people[:-1], orders))
    _copy_orders(conn, rng, past, {person[0]: person for person in people})
    carts = {
        (rng.choice(people[:-1])[0], (shop := rng.choice(trading)).id, shop.products[0].id) for _ in range(buyers // 6)
    }
    waiting = ((*key, 1, CLOSED) for key in sorted(carts))
    copy_in(conn, "carts", "buyer_id shop_id product_id quantity add_time", waiting)
    return made, tuple(FIRST_ID + i for i in range(buyers))


def products_of(rng: random.Random, kind: goods.Goods, first_id: int) -> tuple[Product, ...]:
    """Every title of the kind at a round price."""
    prices = (rng.randrange(kind.cheapest, kind.dearest, 500) for _ in kind.titles)
    made = enumerate(zip(kind.titles, prices, strict=True), first_id)
    return tuple(Product(number, title, price, kind.picture) for number, (title, price) in made)


def _shops(rng: random.Random, fake: Faker, count: int) -> Iterator[Shop]:
    for i in range(count):
        kind = goods.ALL[i % len(goods.ALL)]
        products = products_of(rng, kind, FIRST_ID + i * len(kind.titles))
        yield Shop(FIRST_ID + i, f"{kind.shop} {fake.last_name()} {i + 1}", rng.choice(goods.CITIES), products)


def _people(rng: random.Random, fake: Faker, count: int) -> Iterator[Row]:
    for i in range(count):
        name, phone = fake.name(), f"+6281{rng.randrange(10**8, 10**9)}"
        token = f"tok_{rng.getrandbits(64):016x}" if i % 3 == 0 else None
        yield FIRST_ID + i, name, phone, f"buyer{i + 1}@example.com", rng.choice(goods.CITIES), OPENED + i, token


def _copy_shops(conn: psycopg.Connection, rng: random.Random, shops: tuple[Shop, ...]) -> None:
    notes = ("met the seller in person", "watch: late parcels", None)
    columns = "shop_id name city rating status create_time internal_note"
    rated = (f"{rng.randrange(40, 51) / 10}" for _ in shops)
    opened = zip(shops, rated, strict=True)
    rows = ((s.id, s.name, s.city, rating, "ACTIVE", OPENED, rng.choice(notes)) for s, rating in opened)
    copy_in(conn, "shops", columns, rows)
    columns = "product_id shop_id title description price image create_time supplier_cost"
    copy_in(conn, "products", columns, (_product_row(s, p) for s in shops for p in s.products))
    stock = ((p.id, s.id, rng.randrange(5_000, 20_000)) for s in shops for p in s.products)
    copy_in(conn, "stock", "product_id shop_id on_hand", stock)


def _product_row(shop: Shop, product: Product) -> Row:
    description = f"{product.title} dari {shop.name}, {shop.city}. Dikirim hari yang sama."
    image = f"/static/{product.picture}.svg"
    cost = product.price_idr * 6 // 10
    return product.id, shop.id, product.title, description, product.price_idr, image, OPENED, cost


def _orders(rng: random.Random, shops: tuple[Shop, ...], people: list[Row], count: int) -> Iterator[Order]:
    statuses, weights = tuple(STATUSES), tuple(STATUSES.values())
    for i in range(count):
        shop = rng.choice(shops)
        chosen = rng.sample(shop.products, rng.randint(1, 3))
        lines = tuple((product, rng.randint(1, 3)) for product in chosen)
        time = OPENED + (CLOSED - OPENED) * i // count
        (status,) = rng.choices(statuses, weights)
        yield Order(FIRST_ID + i, shop, int(str(rng.choice(people)[0])), status, time, lines)


def _copy_orders(conn: psycopg.Connection, rng: random.Random, orders: list[Order], people: dict[object, Row]) -> None:
    columns = "order_id shop_id buyer_id status total_amount address create_time paid_time risk_score"
    copy_in(conn, "orders", columns, (_order_row(rng, order, people[order.buyer]) for order in orders))
    columns = "order_id line_no product_id title quantity price"
    copy_in(conn, "order_lines", columns, (row for order in orders for row in _line_rows(order)))
    paid = [order for order in orders if order.paid]
    columns = "charge_id order_id payee method amount provider_order_id transaction_id va_number status create_time"
    copy_in(conn, "charges", f"{columns} settle_time", map(_charge_row, paid))
    columns = "entry_id order_id shop_id event account debit credit create_time"
    copy_in(conn, "ledger", columns, (row for place, order in enumerate(paid) for row in _ledger_rows(place, order)))
    columns = "shop_id key kind order_id charge_id create_time"
    copy_in(conn, "idempotency", columns, (row for order in orders[::10] for row in _key_rows(order)))


def _order_row(rng: random.Random, order: Order, buyer: Row) -> Row:
    address = {"name": buyer[1], "phone": buyer[2], "street": f"Jalan Melati {rng.randint(1, 200)}", "city": buyer[4]}
    written = msgspec.json.encode(address).decode()
    paid_time = order.time + 60 if order.paid else None
    shop, buyer_id = order.shop.id, order.buyer
    return order.id, shop, buyer_id, order.status, order.total, written, order.time, paid_time, rng.randint(0, 99)


def _line_rows(order: Order) -> Iterator[Row]:
    for line_no, (product, quantity) in enumerate(order.lines, 1):
        yield order.id, line_no, product.id, product.title, quantity, product.price_idr


def _charge_row(order: Order) -> Row:
    at_provider = (reference(order.id), f"past-{order.id}", f"80777{order.id}", "settlement")
    return order.id, order.id, "social", "va", order.total, *at_provider, order.time, order.time + 60


def _ledger_rows(place: int, order: Order) -> Iterator[Row]:
    seller, fee = order.total - order.fee, order.fee
    booked = (("CLEARING", order.total, 0), ("SELLER_PAYABLE", 0, seller), ("PLATFORM_FEE", 0, fee))
    for number, (account, debit, credit) in enumerate(booked, FIRST_ID + place * len(booked)):
        yield number, order.id, order.shop.id, "SETTLEMENT", account, debit, credit, order.time + 60


def _key_rows(order: Order) -> Iterator[Row]:
    yield order.shop.id, f"checkout-{order.id}", "checkout", order.id, None, order.time
    if order.paid:
        yield order.shop.id, f"payment-{order.id}", "payment", order.id, order.id, order.time
