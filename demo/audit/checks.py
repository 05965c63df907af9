"""The checks: each holds what shoppers were told against the books and yields a finding for whatever differs.

All are plain functions of values. Every finding names the order, charge, product, key or host that it is about.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from demo.audit.books import Books, Collected, Keeper, Opening, Recorded
from demo.audit.told import Told, ToldPayment

Both = Mapping[Keeper, Books]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it has to be."""

    kind: str
    subject: str
    what: str
    idr: int = 0

    def __str__(self) -> str:
        return f"{self.kind} {self.subject}: {self.what}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """All that the audit has to judge by."""

    told: Told
    books: Both
    collected: list[Collected]
    opening: Opening
    owners: Mapping[str, Keeper]

    def owner(self, shop_id: str) -> Keeper:
        """Who serves the shop now; a shop that nobody was named for has moved."""
        return self.owners.get(shop_id, Keeper.MARKETPLACE)


def lost_orders(case: Case) -> Iterator[Finding]:
    """Each order told is in its owner's books."""
    for order in case.told.orders.values():
        owner = case.owner(order.shop_id)
        if order.order_id not in case.books[owner].orders:
            yield Finding(kind="order lost", subject=order.order_id, what=f"told to a shopper, not recorded at {owner}")


def changed_orders(case: Case) -> Iterator[Finding]:
    """Each order told is recorded with the shop, amount, lines and payment that the shopper was told."""
    for order in case.told.orders.values():
        books = case.books[case.owner(order.shop_id)]
        recorded = books.orders.get(order.order_id)
        if recorded is None:
            continue
        if recorded.amount_idr != order.amount_idr:
            what = f"told {order.amount_idr} rupiah, recorded {recorded.amount_idr}"
            yield Finding(kind="order amount", subject=order.order_id, what=what)
        if recorded.shop_id != order.shop_id:
            yield Finding(kind="order shop", subject=order.order_id, what="recorded under another shop than told")
        if books.lines.get(order.order_id, Counter()) != order.lines:
            yield Finding(kind="order lines", subject=order.order_id, what="other products or quantities than told")
        if order.order_id in case.told.paid and not recorded.paid:
            yield Finding(kind="order unpaid", subject=order.order_id, what="shown paid, recorded unpaid")


def doubled_orders(case: Case) -> Iterator[Finding]:
    """One idempotency key has one order on both sides together, and it is the one told."""
    orders: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for books in case.books.values():
        for key in books.keys:
            orders[key.shop_id, key.key].add(key.order_id)
    for told in case.told.orders.values():
        orders[told.shop_id, told.key].add(told.order_id)
    for _, ids in sorted(orders.items()):
        if len(ids) > 1:
            subject, *others = sorted(ids)
            yield Finding(kind="order doubled", subject=subject, what=f"one key also has order {', '.join(others)}")


def untold_orders(case: Case) -> Iterator[Finding]:
    """No order is recorded that no shopper asked for, and none at one side only or differently at the other."""
    asked = {key.order_id for books in case.books.values() for key in books.keys if key.key in case.told.keys}
    known = case.told.orders.keys() | case.opening.orders.keys() | asked
    for keeper, books in case.books.items():
        for order_id in sorted(books.orders.keys() - known):
            yield Finding(kind="order unasked", subject=order_id, what=f"recorded at {keeper}, no shopper asked for it")


def differing_sides(case: Case) -> Iterator[Finding]:
    """What one side has recorded of an order, the other has too."""
    legacy, marketplace = case.books[Keeper.LEGACY].orders, case.books[Keeper.MARKETPLACE].orders
    for order_id in sorted(legacy.keys() | marketplace.keys()):
        here, there = legacy.get(order_id), marketplace.get(order_id)
        if here is None or there is None:
            missing = Keeper.LEGACY if here is None else Keeper.MARKETPLACE
            yield Finding(kind="order one-sided", subject=order_id, what=f"not known at {missing}")
        elif _essence(here) != _essence(there):
            yield Finding(
                kind="order differs", subject=order_id, what="shop, amount or payment differ between the sides"
            )


def _essence(order: Recorded) -> tuple[str, int, bool]:
    return order.shop_id, order.amount_idr, order.paid


def past_orders(case: Case) -> Iterator[Finding]:
    """The orders from before the load are on both sides, unchanged; the marketplace's own stayed its own."""
    for keeper, books in case.books.items():
        yield from _unchanged(case.opening.orders, books.orders, keeper)
    yield from _unchanged(case.opening.own, case.books[Keeper.MARKETPLACE].own, Keeper.MARKETPLACE)
    for order_id in sorted(case.opening.own.keys() & case.books[Keeper.LEGACY].orders.keys()):
        yield Finding(kind="order leaked", subject=order_id, what="the marketplace's own order is known at legacy")


def _unchanged(before: Mapping[str, int], now: Mapping[str, Recorded], keeper: Keeper) -> Iterator[Finding]:
    for order_id, amount_idr in before.items():
        order = now.get(order_id)
        if order is None:
            yield Finding(kind="past order lost", subject=order_id, what=f"not recorded at {keeper}")
        elif order.amount_idr != amount_idr:
            what = f"{amount_idr} rupiah before, {order.amount_idr} at {keeper} now"
            yield Finding(kind="past order amount", subject=order_id, what=what)


def doubled_charges(case: Case) -> Iterator[Finding]:
    """One attempt is one charge: at the provider, in what shoppers were told, and in the ledgers of both sides."""
    collected: defaultdict[str, list[str]] = defaultdict(list)
    for charge in case.collected:
        collected[_order_of(charge.reference)].append(charge.reference)
    for order_id, references in sorted(collected.items()):
        if len(references) > max(1, case.told.charge_attempts[order_id]):
            what = f"charged {len(references)} times at the provider: {', '.join(sorted(references))}"
            yield Finding(kind="charge doubled", subject=order_id, what=what)
    yield from _doubled_payments(case)
    yield from _doubled_bookings(case)


def _order_of(reference: str) -> str:
    """The order that a provider's reference names; back ends make references of their order's id."""
    match = re.search(r"\d{10,}", reference)
    return match[0] if match else reference


def _doubled_payments(case: Case) -> Iterator[Finding]:
    told: defaultdict[str, set[str]] = defaultdict(set)
    for payment in case.told.payments:
        told[payment.key].add(payment.charge_id)
    for ids in told.values():
        if len(ids) > 1:
            subject, *others = sorted(ids)
            yield Finding(kind="charge doubled", subject=subject, what=f"one attempt also has {', '.join(others)}")


def _doubled_bookings(case: Case) -> Iterator[Finding]:
    entries: defaultdict[str, set[str]] = defaultdict(set)
    for keeper, books in case.books.items():
        for order_id, booking in books.bookings.items():
            entries[order_id] |= set(booking.entries)
            if len(set(booking.entries)) > 1:
                yield Finding(kind="booking doubled", subject=order_id, what=f"received more than once at {keeper}")
                entries.pop(order_id)
    for order_id, ids in sorted(entries.items()):
        if len(ids) > 1:
            yield Finding(kind="booking doubled", subject=order_id, what="received once at each side, as two entries")


def unaccounted(case: Case) -> Iterator[Finding]:
    """What the provider settled is what the owner's ledger booked and what shoppers were told, to the rupiah."""
    received = Counter[str]()
    for charge in case.collected:
        received[_order_of(charge.reference)] += charge.amount_idr if charge.settled else 0
    for order_id in sorted(received.keys() | case.opening.booked.keys() | case.told.orders.keys() | _booked(case)):
        expected = received[order_id] or case.opening.booked.get(order_id, 0)
        booked = _booked_idr(case, order_id)
        if booked != expected:
            what = f"{expected} rupiah received, {booked} booked by its owner"
            yield Finding(kind="money unaccounted", subject=order_id, what=what, idr=abs(booked - expected))
    yield from _unlike_told(case)


def _booked(case: Case) -> set[str]:
    return {order_id for books in case.books.values() for order_id in books.bookings}


def _booked_idr(case: Case, order_id: str) -> int:
    """What the ledger of the order's owner says; the marketplace's own orders are its own."""
    order = next((books.orders[order_id] for books in case.books.values() if order_id in books.orders), None)
    keeper = case.owner(order.shop_id) if order else Keeper.MARKETPLACE
    booking = case.books[keeper].bookings.get(order_id)
    return booking.booked_idr if booking else 0


def _unlike_told(case: Case) -> Iterator[Finding]:
    by_reference = {charge.reference: charge for charge in case.collected}
    for payment in {each.charge_id: each for each in case.told.payments}.values():
        charge = case.books[case.owner(payment.shop_id)].charges.get(payment.charge_id)
        collected = by_reference.get(charge.reference) if charge else None
        yield from _payment(payment, collected, payment.order_id in case.told.paid)


def _payment(payment: ToldPayment, collected: Collected | None, shown_paid: bool) -> Iterator[Finding]:
    if collected is None:
        what = "told to a shopper; its owner's books and the provider know no such charge"
        yield Finding(kind="charge lost", subject=payment.charge_id, what=what, idr=payment.amount_idr)
    elif collected.amount_idr != payment.amount_idr:
        what = f"told {payment.amount_idr} rupiah, charged {collected.amount_idr}"
        idr = abs(collected.amount_idr - payment.amount_idr)
        yield Finding(kind="charge amount", subject=payment.charge_id, what=what, idr=idr)
    elif shown_paid and not collected.settled:
        what = "shown paid, not settled at the provider"
        yield Finding(kind="charge unsettled", subject=payment.charge_id, what=what, idr=payment.amount_idr)


def stock(case: Case) -> Iterator[Finding]:
    """On both sides: pieces at the opening less pieces told as sold are on hand, and never less than none."""
    sold = Counter[str]()
    for order in case.told.orders.values():
        sold += order.lines
    for keeper, books in case.books.items():
        for product, opening in case.opening.stock.items():
            item = books.stock.get(product)
            if item is None:
                yield Finding(kind="stock lost", subject=product, what=f"not known at {keeper}")
            elif item.on_hand < 0 or item.on_hand != opening - sold[product]:
                what = f"{opening} at the opening, {sold[product]} sold, {item.on_hand} on hand at {keeper}"
                yield Finding(kind="stock", subject=product, what=what)


def unbalanced_ledgers(case: Case) -> Iterator[Finding]:
    """Each order's entries sum to zero, on both sides."""
    for keeper, books in case.books.items():
        for booking in books.bookings.values():
            if booking.balance_idr:
                what = f"{booking.balance_idr} rupiah out of balance at {keeper}"
                yield Finding(kind="ledger", subject=booking.order_id, what=what)


def other_hosts(case: Case) -> Iterator[Finding]:
    """Every URL that an answer gave the shoppers stays on the host that they called."""
    for host, seen_in in sorted(case.told.hosts.items()):
        if host not in case.told.called:
            yield Finding(kind="host", subject=host, what=f"named by {seen_in}")


def failed_requests(case: Case) -> Iterator[Finding]:
    """Every request was answered, and no answer contradicted another."""
    for call, times in case.told.failures.items():
        yield Finding(kind="request failed", subject=call, what=f"{times} times")
    for line in case.told.contradictions:
        ids = " ".join(str(line[name]) for name in ("order_id", "charge_id", "shop_id") if name in line)
        yield Finding(kind="contradiction", subject=ids or line["call"], what=f"{line['call']}: {line['why']}")
