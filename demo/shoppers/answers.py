"""What the front end reads from each answer. A field that is not named here may come and go; these may not."""

from decimal import Decimal

import msgspec


class Product(msgspec.Struct):
    product_id: str
    title: str
    price: str
    stock: int


class Products(msgspec.Struct):
    products: list[Product]


class Shop(msgspec.Struct):
    shop_id: str
    name: str
    processed_by: str


class Line(msgspec.Struct):
    product_id: str
    quantity: int


class Cart(msgspec.Struct):
    items: list[Line]
    total_amount: str


class Placed(msgspec.Struct):
    """The answer to a checkout."""

    order_id: str
    status: str
    total_amount: str
    items: list[Line]
    invoice_url: str


class Charged(msgspec.Struct):
    """The answer to a payment."""

    charge_id: str
    order_id: str
    gross_amount: str
    transaction_status: str


class State(msgspec.Struct):
    """One order as its page shows it."""

    order_id: str
    status: str
    total_amount: str


class Listed(msgspec.Struct):
    """One order as the list of the buyer's orders shows it."""

    order_id: str
    shop_id: str
    status: str
    total_amount: str


class MyOrders(msgspec.Struct):
    orders: list[Listed]


class Profile(msgspec.Struct):
    name: str
    phone: str
    email: str
    city: str


def rupiah(amount: str) -> int:
    """Whole rupiah of a decimal string; ValueError if there is a fraction, for money is never rounded here."""
    value = Decimal(amount)
    if value != value.to_integral_value():
        raise ValueError(f"{amount} is no whole number of rupiah")
    return int(value)
