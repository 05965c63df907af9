"""What the front end reads from each answer. A field that is not named here may come and go; these may not."""

from decimal import Decimal
from typing import Annotated

import msgspec

Amount = Annotated[str, msgspec.Meta(pattern=r"^\d+(\.0+)?$")]
"""Money as text: whole rupiah, for money is never rounded here."""


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
    total_amount: Amount


class Order(msgspec.Struct, kw_only=True):
    """An order as its page shows it."""

    order_id: str
    status: str
    total_amount: Amount

    @property
    def amount_idr(self) -> int:
        return rupiah(self.total_amount)


class Placed(Order, kw_only=True):
    """The answer to a checkout, and below it what had been asked."""

    items: list[Line]
    invoice_url: str
    shop_id: str = ""
    buyer_id: str = ""
    key: str = ""


class Listed(Order, kw_only=True):
    """An order in the list of all the buyer's orders."""

    shop_id: str


class MyOrders(msgspec.Struct):
    orders: list[Listed]


class Charged(msgspec.Struct):
    """The answer to a payment."""

    charge_id: str
    order_id: str
    gross_amount: Amount
    transaction_status: str


class Shown(Order, kw_only=True):
    """An order on its own page."""

    payment_status: str | None


class Refunded(msgspec.Struct):
    """The answer to a refund."""

    refund_id: str
    order_id: str
    amount: Amount
    status: str


class Profile(msgspec.Struct):
    name: str
    phone: str
    email: str
    city: str


def rupiah(amount: Amount) -> int:
    return int(Decimal(amount))
