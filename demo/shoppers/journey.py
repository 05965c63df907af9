"""A shopper: watches the feed, follows a promotion, fills a cart, buys, pays, and looks at what became of it.

A shopper believes nothing: each answer is held against what earlier answers said. An order once told is followed to
its end, paid or known to be unpaid, also after the load was stopped.
"""

import asyncio
import json
import random
import re
import uuid
from collections import defaultdict, deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import msgspec

from demo.shoppers.answers import (
    Cart,
    Charged,
    MyOrders,
    Placed,
    Product,
    Products,
    Profile,
    Shop,
    State,
    rupiah,
)
from demo.shoppers.browser import Answer, Broken, Browser, Unanswered, hosts_named
from demo.shoppers.diary import Diary, Order, Payment

TRIES = 3
"""How often an order or payment is asked for again, under the same key, when no answer came."""
LOOKS = [0.2] * 5 + [0.5] * 10 + [1.0] * 10
"""Seconds between looks at an order that is being paid: 16 s in all."""
REMEMBERED = 20
"""How many of a buyer's orders are looked for in the list of 50; the seed's past orders stand in it too."""
ENOUGH_STOCK = 10
CITIES = ("Jakarta", "Bandung", "Surabaya", "Medan", "Makassar", "Denpasar", "Yogyakarta", "Semarang")
STREETS = ("Jl. Merdeka 10", "Jl. Diponegoro 25", "Jl. Sudirman 7", "Jl. Gajah Mada 112", "Jl. Kenanga 3")
PROMOTED = re.compile(r"/shops/([^/]+)/products/([^/?#]+)")
PROMOTION = re.compile(r'"((?:https?://[^/"]+)?/p/[^"]+)"')


class Shopper:
    """One person at one front end, with some buyer accounts that nobody else uses."""

    def __init__(
        self, browser: Browser, diary: Diary, shops: Sequence[str], buyers: Sequence[str], rng: random.Random
    ) -> None:
        self._browser = browser
        self._diary = diary
        self._shops = shops
        self._buyers = buyers
        self._rng = rng
        self._told: defaultdict[str, deque[Order]] = defaultdict(lambda: deque(maxlen=REMEMBERED))
        self._paid: set[str] = set()
        self._turn = rng.randrange(60)
        self._greeted = ""

    async def journey(self) -> None:
        """From the feed to the invoice. What goes wrong stands in the diary; nothing is raised for it."""
        self._turn += 1
        buyer = self._rng.choice(self._buyers)
        with suppress(Broken):
            await self._look_around(buyer)
            order = await self._buy(buyer)
            for step in (self._pay, self._await_paid, self._read_invoice, self._find_in_my_orders):
                with suppress(Broken):
                    await step(order)

    async def _look_around(self, buyer: str) -> None:
        # Each phase of the story has to see every call, so the rarer ones come first in it.
        if self._turn % 5 == 0 or self._greeted != self._diary.label:
            self._greeted = self._diary.label
            await self._change_profile(buyer)
        if self._turn % 3 == 0 and self._told[buyer]:
            await self._repeat_checkout(self._rng.choice(self._told[buyer]))

    async def _buy(self, buyer: str) -> Order:
        promoted = await self._follow_promotion(buyer)
        shop = promoted if self._turn % 2 else self._rng.choice(self._shops)
        product = await self._choose_product(shop, buyer)
        cart = await self._fill_cart(shop, product, buyer)
        order = await self._check_out(shop, cart, buyer)
        if self._turn % 4 == 0:
            await self._repeat_checkout(order)
        return order

    async def _follow_promotion(self, buyer: str) -> str:
        """From the feed over a promotion's link to the page it leads to; the promoted shop's id."""
        feed = await self._browser.get("/api/feed", buyer)
        links = promotions(feed)
        if not links:
            self._browser.doubt(feed.call, "the feed promotes nothing")
        promo = await self._browser.get(self._rng.choice(links), buyer)
        target = PROMOTED.search(promo.location)
        if not target:
            self._browser.doubt(promo.call, "a promotion's link leads to no product")
        await self._browser.get(promo.location, buyer)
        await self._browser.get(f"/api/shops/{target[1]}/products/{target[2]}", buyer)
        return target[1]

    async def _choose_product(self, shop: str, buyer: str) -> Product:
        tab = await self._browser.get(f"/api/shops/{shop}", buyer)
        if self._browser.read(tab, Shop).shop_id != shop:
            self._browser.doubt(tab.call, "another shop than asked for", shop_id=shop)
        shelf = await self._browser.get(f"/api/shops/{shop}/products", buyer)
        in_stock = [each for each in self._browser.read(shelf, Products).products if each.stock >= ENOUGH_STOCK]
        if not in_stock:
            raise Broken("nothing left to buy here")
        chosen = self._rng.choice(in_stock)
        page = await self._browser.get(f"/api/shops/{shop}/products/{chosen.product_id}", buyer)
        product = self._browser.read(page, Product)
        if (product.product_id, product.price) != (chosen.product_id, chosen.price):
            self._browser.doubt(page.call, "another product or price than in the list", product_id=chosen.product_id)
        return product

    async def _fill_cart(self, shop: str, product: Product, buyer: str) -> Cart:
        item = {"product_id": product.product_id, "quantity": self._rng.randint(1, 2)}
        added = self._browser.read(await self._browser.post(f"/api/shops/{shop}/cart/items", buyer, item), Cart)
        shown = await self._browser.get(f"/api/shops/{shop}/cart", buyer)
        cart = self._browser.read(shown, Cart)
        if cart != added or product.product_id not in {line.product_id for line in cart.items}:
            self._browser.doubt(shown.call, "the cart is not what was put in", shop_id=shop, buyer_id=buyer)
        return cart

    async def _check_out(self, shop: str, cart: Cart, buyer: str) -> Order:
        key = self._key()
        self._diary.attempt("order", key, {"shop_id": shop, "buyer_id": buyer})
        answer = await self._insist(lambda: self._ask_for_order(shop, buyer, key))
        order = self._order(answer, shop, buyer, key)
        self._diary.order(order)
        self._told[buyer].append(order)
        if order.amount_idr != self._rupiah(answer, cart.total_amount):
            self._browser.doubt(answer.call, "the order's amount is not the cart's", order_id=order.order_id)
        return order

    async def _repeat_checkout(self, told: Order) -> None:
        """Ask again under a key that was answered before, as a phone does when the answer got lost on its way."""
        answer = await self._ask_for_order(told.shop_id, told.buyer_id, told.key)
        again = self._order(answer, told.shop_id, told.buyer_id, told.key)
        if (again.order_id, again.amount_idr) != (told.order_id, told.amount_idr):
            self._browser.doubt(
                answer.call, "another order for the same key", order_id=told.order_id, another=again.order_id
            )

    async def _pay(self, order: Order) -> None:
        key = self._key()
        method = "qris" if self._rng.random() < 0.5 else "va"
        self._diary.attempt("payment", key, {"order_id": order.order_id, "shop_id": order.shop_id})
        payment = await self._charge(order, key, method)
        self._diary.payment(payment)
        if payment.amount_idr != order.amount_idr:
            self._browser.doubt("payment", "the charge's amount is not the order's", order_id=order.order_id)
        if self._turn % 4 == 1:
            again = await self._charge(order, key, method)
            if again.charge_id != payment.charge_id:
                self._browser.doubt("payment", "another charge for the same key", charge_id=again.charge_id)

    async def _charge(self, order: Order, key: str, method: str) -> Payment:
        path = f"/api/shops/{order.shop_id}/orders/{order.order_id}/payment"
        answer = await self._insist(lambda: self._browser.post(path, order.buyer_id, {"method": method}, key))
        charged = self._browser.read(answer, Charged)
        if charged.order_id != order.order_id:
            self._browser.doubt(answer.call, "a charge for another order", order_id=order.order_id)
        return Payment(
            charge_id=charged.charge_id,
            order_id=order.order_id,
            shop_id=order.shop_id,
            amount_idr=self._rupiah(answer, charged.gross_amount),
            key=key,
            status=charged.transaction_status,
        )

    async def _await_paid(self, order: Order) -> None:
        for seconds in LOOKS:
            answer = await self._browser.get(f"/api/shops/{order.shop_id}/orders/{order.order_id}", order.buyer_id)
            state = self._browser.read(answer, State)
            if (state.order_id, self._rupiah(answer, state.total_amount)) != (order.order_id, order.amount_idr):
                self._browser.doubt(answer.call, "the amount differs from what was told", order_id=order.order_id)
            if state.status != "UNPAID":
                self._paid.add(order.order_id)
                self._diary.settled(order)
                return
            await asyncio.sleep(seconds)

    async def _read_invoice(self, order: Order) -> None:
        page = await self._browser.get(order.invoice_url, order.buyer_id)
        for host in hosts_named(page.body):
            if host != self._browser.host:
                self._browser.doubt(page.call, f"the invoice links to another host, {host}", order_id=order.order_id)
        figures = re.sub(r"(?<=\d)[.,](?=\d{3})", "", str(page.body))
        if order.order_id not in figures or str(order.amount_idr) not in figures:
            self._browser.doubt(page.call, "the invoice is not the order's", order_id=order.order_id)

    async def _find_in_my_orders(self, order: Order) -> None:
        """The list over all shops has to hold what this buyer was told, whichever side each shop is on."""
        answer = await self._browser.get("/api/me/orders?limit=50", order.buyer_id)
        listed = {each.order_id: each for each in self._browser.read(answer, MyOrders).orders}
        for told in self._told[order.buyer_id]:
            shown = listed.get(told.order_id)
            if shown is None:
                self._browser.doubt(answer.call, "an order that was told is missing", order_id=told.order_id)
            if (shown.shop_id, self._rupiah(answer, shown.total_amount)) != (told.shop_id, told.amount_idr):
                self._browser.doubt(answer.call, "shop or amount differs from what was told", order_id=told.order_id)
            if told.order_id in self._paid and shown.status == "UNPAID":
                self._browser.doubt(answer.call, "an order seen paid is shown unpaid", order_id=told.order_id)

    async def _change_profile(self, buyer: str) -> None:
        profile = self._browser.read(await self._browser.get("/api/me/profile", buyer), Profile)
        wanted = msgspec.to_builtins(profile) | {"city": self._rng.choice(CITIES)}
        await self._browser.post("/api/me/profile", buyer, wanted)
        shown = await self._browser.get("/api/me/profile", buyer)
        if self._browser.read(shown, Profile).city != wanted["city"]:
            self._browser.doubt(shown.call, "the profile is not what was just saved", buyer_id=buyer)

    async def _ask_for_order(self, shop: str, buyer: str, key: str) -> Answer:
        # The address follows from the key, so that a repeated request is the same request to the letter.
        pick = random.Random(key)
        address = {
            "name": f"Pembeli {buyer}",
            "phone": f"+62812{pick.randrange(10**8):08d}",
            "street": pick.choice(STREETS),
            "city": pick.choice(CITIES),
        }
        return await self._browser.post(f"/api/shops/{shop}/orders", buyer, {"address": address}, key)

    async def _insist(self, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """Ask until there is an answer, bounded: under one key, so asking twice is having asked once."""
        for _ in range(TRIES - 1):
            with suppress(Unanswered):
                return await ask()
            await asyncio.sleep(1)
        return await ask()

    def _order(self, answer: Answer, shop: str, buyer: str, key: str) -> Order:
        placed = self._browser.read(answer, Placed)
        return Order(
            order_id=placed.order_id,
            shop_id=shop,
            buyer_id=buyer,
            amount_idr=self._rupiah(answer, placed.total_amount),
            key=key,
            invoice_url=placed.invoice_url,
            lines=[(line.product_id, line.quantity) for line in placed.items],
        )

    def _rupiah(self, answer: Answer, amount: str) -> int:
        try:
            return rupiah(amount)
        except (ValueError, ArithmeticError):
            self._browser.doubt(answer.call, f"{amount} is no amount of whole rupiah")

    def _key(self) -> str:
        return str(uuid.UUID(int=self._rng.getrandbits(128), version=4))


def promotions(feed: Answer) -> list[str]:
    """The links of the feed's promotions, wherever in the feed they stand."""
    return sorted(set(PROMOTION.findall(_text(feed))))


def _text(answer: Answer) -> str:
    return answer.body if isinstance(answer.body, str) else json.dumps(answer.body)
