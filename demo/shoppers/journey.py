"""A shopper: watches the feed, follows a promotion, fills a cart, buys, pays, and looks at what became of it.

A shopper believes nothing: each answer is held against what earlier answers said. An order once told is followed to
its end, paid or known to be unpaid, also after the load was stopped.
"""

import asyncio
import random
import re
import uuid
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from demo.shoppers.answers import (
    Cart,
    Charged,
    MyOrders,
    Placed,
    Product,
    Products,
    Profile,
    Refunded,
    Shop,
    Shown,
    rupiah,
)
from demo.shoppers.browser import Broken, Browser, Unanswered, hosts_named, text_of
from demo.shoppers.diary import Diary

T = TypeVar("T")

TRIES = 3
"""How often an order, payment or refund is asked for again, under the same key, when no answer came."""
LOOKS = [0.2] * 5 + [0.5] * 8
"""Seconds between looks at an order that is being paid: 5 s in all, then it is looked at between other things."""
LAST_LOOKS = [1.0] * 40
"""Seconds between looks at what is still unpaid when the shop is left."""
PARTS = ((4,), (4, 4), (4, 5))
"""Which parts of a payment are asked back, one after the other: a fourth, a fourth twice, a fourth and a fifth."""
REMEMBERED = 20
"""How many of a buyer's orders are looked for in the list of 50; the seed's past orders stand in it too."""
ENOUGH_STOCK = 10
CITIES = ("Jakarta", "Bandung", "Surabaya", "Medan", "Makassar", "Denpasar", "Yogyakarta", "Semarang")
PROMOTED = re.compile(r"/shops/([^/]+)/products/([^/?#]+)")
PROMOTION = re.compile(r'"((?:https?://[^/"]+)?/p/[^"]+)"')


def _remembered() -> defaultdict[str, deque[Placed]]:
    return defaultdict(lambda: deque(maxlen=REMEMBERED))


@dataclass(slots=True)
class Shopper:
    """One person at one front end, with some buyer accounts that nobody else uses."""

    browser: Browser
    diary: Diary
    shops: Sequence[str]
    buyers: Sequence[str]
    rng: random.Random
    told: defaultdict[str, deque[Placed]] = field(default_factory=_remembered)
    paid: set[str] = field(default_factory=set)
    unpaid: list[Placed] = field(default_factory=list)
    turn: int = 0
    greeted: str = ""

    async def journey(self) -> None:
        """From the feed to the invoice. What goes wrong stands in the diary; nothing is raised for it."""
        self.turn += 1
        buyer = self.rng.choice(self.buyers)
        with suppress(Broken):
            await self._look_around(buyer)
            order = await self._buy(buyer)
            for step in (self._pay, self._await_paid, self._read_invoice, self._find_in_my_orders, self._take_back):
                with suppress(Broken):
                    await step(order)

    async def leave(self) -> None:
        """Wait for payments that take their time; bounded, for some may never come."""
        for seconds in LAST_LOOKS:
            if not self.unpaid:
                return
            await asyncio.sleep(seconds)
            await self._look_again()

    async def _look_around(self, buyer: str) -> None:
        await self._look_again()
        # Each phase of the story has to see every call, so the rarer ones come first in it.
        if self.turn % 5 == 0 or self.greeted != self.diary.label:
            self.greeted = self.diary.label
            await self._change_profile(buyer)
        if self.turn % 3 == 0 and self.told[buyer]:
            await self._repeat_checkout(self.rng.choice(self.told[buyer]))

    async def _buy(self, buyer: str) -> Placed:
        promoted = await self._follow_promotion(buyer)
        shop = promoted if self.turn % 2 else self.rng.choice(self.shops)
        product = await self._choose_product(shop, buyer)
        cart = await self._fill_cart(shop, product, buyer)
        order = await self._check_out(shop, cart, buyer)
        if self.turn % 4 == 0:
            await self._repeat_checkout(order)
        return order

    async def _follow_promotion(self, buyer: str) -> str:
        """From the feed over a promotion's link to the page it leads to; the promoted shop's id."""
        feed = await self.browser.get("/api/feed", buyer)
        links = sorted(set(PROMOTION.findall(text_of(feed.body))))
        self.browser.expect(links != [], feed.call, "the feed promotes nothing")
        promo = await self.browser.get(self.rng.choice(links), buyer)
        target = PROMOTED.search(promo.location)
        if not target:
            self.browser.doubt(promo.call, "a promotion's link leads to no product")
        await self.browser.get(promo.location, buyer)
        await self.browser.get(f"/api/shops/{target[1]}/products/{target[2]}", buyer)
        return target[1]

    async def _choose_product(self, shop: str, buyer: str) -> Product:
        tab = await self.browser.get(f"/api/shops/{shop}", buyer)
        same = self.browser.read(tab, Shop).shop_id == shop
        self.browser.expect(same, tab.call, "another shop than asked for", shop_id=shop)
        shelf = await self.browser.get(f"/api/shops/{shop}/products", buyer)
        in_stock = [each for each in self.browser.read(shelf, Products).products if each.stock >= ENOUGH_STOCK]
        if not in_stock:
            raise Broken("nothing left to buy here")
        chosen = self.rng.choice(in_stock)
        page = await self.browser.get(f"/api/shops/{shop}/products/{chosen.product_id}", buyer)
        product = self.browser.read(page, Product)
        same = (product.product_id, product.price) == (chosen.product_id, chosen.price)
        what = "another product or price than in the list"
        self.browser.expect(same, page.call, what, product_id=chosen.product_id)
        return product

    async def _fill_cart(self, shop: str, product: Product, buyer: str) -> Cart:
        item = {"product_id": product.product_id, "quantity": self.rng.randint(1, 2)}
        added = self.browser.read(await self.browser.post(f"/api/shops/{shop}/cart/items", buyer, item), Cart)
        shown = await self.browser.get(f"/api/shops/{shop}/cart", buyer)
        cart = self.browser.read(shown, Cart)
        same = cart == added and product.product_id in {line.product_id for line in cart.items}
        self.browser.expect(same, shown.call, "the cart is not what was put in", shop_id=shop, buyer_id=buyer)
        return cart

    async def _check_out(self, shop: str, cart: Cart, buyer: str) -> Placed:
        key = self._key()
        self.diary.attempt("order", key, shop_id=shop, buyer_id=buyer)
        order = await self._insist(lambda: self._order(shop, buyer, key))
        self.diary.order(order)
        self.told[buyer].append(order)
        same = order.amount_idr == rupiah(cart.total_amount)
        self.browser.expect(same, "checkout", "the order's amount is not the cart's", order_id=order.order_id)
        return order

    async def _repeat_checkout(self, told: Placed) -> None:
        """Ask again under a key that was answered before, as a phone does when the answer got lost on its way."""
        again = await self._order(told.shop_id, told.buyer_id, told.key)
        same = (again.order_id, again.amount_idr) == (told.order_id, told.amount_idr)
        what = "another order for the same key"
        self.browser.expect(same, "checkout", what, order_id=told.order_id, another=again.order_id)

    async def _pay(self, order: Placed) -> None:
        key = self._key()
        method = self.rng.choice(("qris", "va"))
        self.diary.attempt("payment", key, order_id=order.order_id, shop_id=order.shop_id)
        charge = await self._charge(order, key, method)
        amount_idr = rupiah(charge.gross_amount)
        self.diary.payment(order, charge.charge_id, amount_idr, key)
        same = amount_idr == order.amount_idr
        self.browser.expect(same, "payment", "the charge's amount is not the order's", order_id=order.order_id)
        if self.turn % 4 == 1:
            again = (await self._charge(order, key, method)).charge_id
            what = "another charge for the same key"
            self.browser.expect(again == charge.charge_id, "payment", what, charge_id=again)

    async def _charge(self, order: Placed, key: str, method: str) -> Charged:
        path = f"/api/shops/{order.shop_id}/orders/{order.order_id}/payment"
        answer = await self._insist(lambda: self.browser.post(path, order.buyer_id, {"method": method}, key))
        charge = self.browser.read(answer, Charged)
        same = charge.order_id == order.order_id
        self.browser.expect(same, answer.call, "a charge for another order", order_id=order.order_id)
        return charge

    async def _await_paid(self, order: Placed) -> None:
        for seconds in LOOKS:
            if await self._seen_paid(order):
                return
            await asyncio.sleep(seconds)
        self.unpaid.append(order)

    async def _look_again(self) -> None:
        for order in list(self.unpaid):
            with suppress(Broken):
                if await self._seen_paid(order):
                    self.unpaid.remove(order)

    async def _seen_paid(self, order: Placed) -> bool:
        shown = await self._look_at(order)
        if shown.status == "UNPAID":
            return False
        self.paid.add(order.order_id)
        self.diary.settled(order)
        return True

    async def _look_at(self, order: Placed) -> Shown:
        answer = await self.browser.get(f"/api/shops/{order.shop_id}/orders/{order.order_id}", order.buyer_id)
        shown = self.browser.read(answer, Shown)
        same = (shown.order_id, shown.amount_idr) == (order.order_id, order.amount_idr)
        self.browser.expect(same, answer.call, "the amount differs from what was told", order_id=order.order_id)
        return shown

    async def _read_invoice(self, order: Placed) -> None:
        page = await self.browser.get(order.invoice_url, order.buyer_id)
        for host in hosts_named(page.body):
            what = f"the invoice links to another host, {host}"
            self.browser.expect(host == self.browser.host, page.call, what, order_id=order.order_id)
        figures = re.sub(r"(?<=\d)[.,](?=\d{3})", "", str(page.body))
        same = order.order_id in figures and str(order.amount_idr) in figures
        self.browser.expect(same, page.call, "the invoice is not the order's", order_id=order.order_id)

    async def _find_in_my_orders(self, order: Placed) -> None:
        """The list over all shops has to hold what this buyer was told, whichever side each shop is on."""
        answer = await self.browser.get("/api/me/orders?limit=50", order.buyer_id)
        listed = {each.order_id: each for each in self.browser.read(answer, MyOrders).orders}
        for told in self.told[order.buyer_id]:
            shown = listed.get(told.order_id)
            if shown is None:
                self.browser.doubt(answer.call, "an order that was told is missing", order_id=told.order_id)
            same = (shown.shop_id, shown.amount_idr) == (told.shop_id, told.amount_idr)
            what = "shop or amount differs from what was told"
            self.browser.expect(same, answer.call, what, order_id=told.order_id)
            unpaid = told.order_id in self.paid and shown.status == "UNPAID"
            self.browser.expect(not unpaid, answer.call, "an order seen paid is shown unpaid", order_id=told.order_id)

    async def _take_back(self, order: Placed) -> None:
        """Some ask for money back: a part, or two parts, which stay two also when they are equal."""
        if self.turn % 3 or order.order_id not in self.paid:
            return
        for part in self.rng.choice(PARTS):
            await self._refund(order, order.amount_idr // part)
        status = (await self._look_at(order)).payment_status
        what = "money was given back, and the order does not show it"
        self.browser.expect(status == "partial_refund", "refund", what, order_id=order.order_id)

    async def _refund(self, order: Placed, amount_idr: int) -> None:
        key = self._key()
        self.diary.attempt("refund", key, order_id=order.order_id, shop_id=order.shop_id)
        given = await self._give_back(order, amount_idr, key)
        self.diary.refund(order, given.refund_id, amount_idr, key)
        same = (given.order_id, rupiah(given.amount), given.status) == (order.order_id, amount_idr, "settled")
        self.browser.expect(same, "refund", "not what was asked back", order_id=order.order_id)
        if self.turn % 2:
            again = (await self._give_back(order, amount_idr, key)).refund_id
            self.browser.expect(again == given.refund_id, "refund", "another refund for the same key", refund_id=again)

    async def _give_back(self, order: Placed, amount_idr: int, key: str) -> Refunded:
        path = f"/api/shops/{order.shop_id}/orders/{order.order_id}/refunds"
        asked = {"amount": f"{amount_idr}.00", "reason": "tidak sesuai"}
        answer = await self._insist(lambda: self.browser.post(path, order.buyer_id, asked, key))
        return self.browser.read(answer, Refunded)

    async def _change_profile(self, buyer: str) -> None:
        profile = self.browser.read(await self.browser.get("/api/me/profile", buyer), Profile)
        profile.city = self.rng.choice(CITIES)
        await self.browser.post("/api/me/profile", buyer, msgspec.to_builtins(profile))
        shown = await self.browser.get("/api/me/profile", buyer)
        same = self.browser.read(shown, Profile).city == profile.city
        self.browser.expect(same, shown.call, "the profile is not what was just saved", buyer_id=buyer)

    async def _order(self, shop: str, buyer: str, key: str) -> Placed:
        # The address follows from the key, so that a repeated request is the same request to the letter.
        pick = random.Random(key)
        to = {"name": f"Pembeli {buyer}", "phone": f"+62812{pick.randrange(10**8):08d}"}
        address = to | {"street": f"Jl. Merdeka {pick.randrange(1, 120)}", "city": pick.choice(CITIES)}
        answer = await self.browser.post(f"/api/shops/{shop}/orders", buyer, {"address": address}, key)
        order = self.browser.read(answer, Placed)
        order.shop_id, order.buyer_id, order.key = shop, buyer, key
        return order

    async def _insist(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask until there is an answer, bounded: under one key, so asking twice is having asked once."""
        for _ in range(TRIES - 1):
            with suppress(Unanswered):
                return await ask()
            await asyncio.sleep(1)
        return await ask()

    def _key(self) -> str:
        return str(uuid.UUID(int=self.rng.getrandbits(128), version=4))
