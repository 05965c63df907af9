"""The checks: each holds what shoppers were told against the books and yields a finding for whatever differs.

All are plain functions of values. Every finding names the order, charge, product, call or host that it is about. The
shops have moved when the audit is made, so what the marketplace has recorded is what counts.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from demo.audit.books import Books, Collected, Keeper, Opening, Recorded

Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
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
    """All that the audit has to judge by; `told` holds the diary's lines by their kind. What is bought in the
    `test_shops` is not in the diary: trials buy there."""

    told: Mapping[str, list[Line]]
    books: Mapping[Keeper, Books]
    collected: list[Collected]
    opening: Opening
    test_shops: Collection[str] = ()

    @property
    def recorded(self) -> dict[str, Recorded]:
        """The social channel's orders in the marketplace's books."""
        return self.books[Keeper.MARKETPLACE].orders

    def tried(self) -> list[Recorded]:
        """What trials have bought."""
        known = self.opening.orders.keys() | {told["order_id"] for told in self.told["order"]}
        there = (order for order in self.recorded.values() if order.shop_id in self.test_shops)
        return [order for order in there if order.order_id not in known]

    def shown_paid(self) -> set[str]:
        """The orders that a shopper saw paid."""
        return {line["order_id"] for line in self.told["settled"]}


def told_orders(case: Case) -> Iterator[Finding]:
    """Each order told is recorded with the shop, amount, lines and payment that the shopper was told."""
    shown_paid = case.shown_paid()
    for told in case.told["order"]:
        order_id, order = told["order_id"], case.recorded.get(told["order_id"])
        if order is None:
            yield Finding("order lost", order_id, "told to a shopper, not recorded at marketplace")
            continue
        if order.amount_idr != told["amount_idr"]:
            yield Finding("order amount", order_id, f"told {told['amount_idr']} rupiah, recorded {order.amount_idr}")
        if order.shop_id != told["shop_id"]:
            yield Finding("order shop", order_id, "recorded under another shop than told")
        if sorted(order.lines) != sorted(told["lines"]):
            yield Finding("order lines", order_id, "other products or quantities than told")
        if order_id in shown_paid and not order.paid:
            yield Finding("order unpaid", order_id, "shown paid, recorded unpaid")


def doubled_orders(case: Case) -> Iterator[Finding]:
    """One idempotency key has one order, on both sides and told; one order told answers one key."""
    orders: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for books in case.books.values():
        for order in books.orders.values():
            for key in order.keys:
                orders[order.shop_id, key].add(order.order_id)
    for told in case.told["order"]:
        orders[told["shop_id"], told["key"]].add(told["order_id"])
    for ids in orders.values():
        if len(ids) > 1:
            subject, *others = sorted(ids)
            yield Finding("order doubled", subject, f"one key also has order {', '.join(others)}")
    for order_id, times in Counter(told["order_id"] for told in case.told["order"]).items():
        if times > 1:
            yield Finding("order lost", order_id, f"told for {times} attempts, which is one order for all of them")


def both_sides(case: Case) -> Iterator[Finding]:
    """What one side has recorded of an order, the other has too; and somebody asked for it."""
    known = case.opening.orders.keys() | {told["order_id"] for told in case.told["order"]}
    asked = {line["key"] for line in case.told["attempt"]}
    for keeper, other in zip(Keeper, reversed(Keeper), strict=True):
        for order_id, order in case.books[keeper].orders.items():
            there = case.books[other].orders.get(order_id)
            if there is None:
                yield Finding("order one-sided", order_id, f"not known at {other}")
            elif keeper is Keeper.LEGACY and _essence(order) != _essence(there):
                yield Finding("order differs", order_id, "shop, amount, payment or refunds differ between the sides")
            if order_id not in known and asked.isdisjoint(order.keys) and order.shop_id not in case.test_shops:
                yield Finding("order unasked", order_id, f"recorded at {keeper}, no shopper asked for it")


def _essence(order: Recorded) -> tuple[str, int, bool, list[Any]]:
    return order.shop_id, order.amount_idr, order.paid, order.refunds


def past_orders(case: Case) -> Iterator[Finding]:
    """The orders from before the load are on both sides, unchanged; the marketplace's own stayed its own."""
    for keeper, books in case.books.items():
        yield from _unchanged(case.opening.orders, books.orders, keeper)
    yield from _unchanged(case.opening.own, case.books[Keeper.MARKETPLACE].own, Keeper.MARKETPLACE)
    for order_id in case.opening.own.keys() & case.books[Keeper.LEGACY].orders.keys():
        yield Finding("order leaked", order_id, "the marketplace's own order is known at legacy")


def _unchanged(before: Mapping[str, int], now: Mapping[str, Recorded], keeper: Keeper) -> Iterator[Finding]:
    for order_id, amount_idr in before.items():
        order = now.get(order_id)
        if order is None:
            yield Finding("past order lost", order_id, f"not recorded at {keeper}")
        elif order.amount_idr != amount_idr:
            what = f"{amount_idr} rupiah before, {order.amount_idr} at {keeper} now"
            yield Finding("past order amount", order_id, what)


def doubled_charges(case: Case) -> Iterator[Finding]:
    """An order is charged once at the provider, and received once in the ledgers of both sides together."""
    charges: defaultdict[str, list[str]] = defaultdict(list)
    for charge in case.collected:
        charges[charge.order_id].append(charge.reference)
    for order_id, references in charges.items():
        if len(references) > 1:
            what = f"charged {len(references)} times at the provider: {', '.join(sorted(references))}"
            yield Finding("charge doubled", order_id, what)
    for order_id in {order_id for books in case.books.values() for order_id in books.orders}:
        sides = [books.orders[order_id].entries for books in case.books.values() if order_id in books.orders]
        if any(len(entries) > 1 for entries in sides):
            yield Finding("booking doubled", order_id, "received more than once at one side")
        elif len({entry for entries in sides for entry in entries}) > 1:
            yield Finding("booking doubled", order_id, "received once at each side, as two entries")


def unaccounted(case: Case) -> Iterator[Finding]:
    """What the provider settled and did not give back is what the marketplace's ledger booked, to the rupiah."""
    received = Counter[str]()
    for charge in case.collected:
        received[charge.order_id] += charge.kept_idr
    recorded = case.recorded | case.books[Keeper.MARKETPLACE].own
    for order_id in received.keys() | case.opening.booked.keys() | recorded.keys():
        expected = received[order_id] or case.opening.booked.get(order_id, 0)
        booked = recorded[order_id].booked_idr if order_id in recorded else 0
        if booked != expected:
            what = f"{expected} rupiah received, {booked} booked by its owner"
            yield Finding("money unaccounted", order_id, what, abs(booked - expected))


def told_charges(case: Case) -> Iterator[Finding]:
    """Each charge told is the marketplace's and the provider's, with the amount and settlement that were shown."""
    by_reference = {charge.reference: charge for charge in case.collected}
    references = {order.charge_id: order.reference for order in case.recorded.values()}
    shown_paid = case.shown_paid()
    for told in case.told["payment"]:
        charge_id, idr = told["charge_id"], told["amount_idr"]
        charge = by_reference.get(references.get(charge_id) or "")
        if charge is None:
            what = "told to a shopper; its owner's books and the provider know no such charge"
            yield Finding("charge lost", charge_id, what, idr)
        elif charge.amount_idr != idr:
            what = f"told {idr} rupiah, charged {charge.amount_idr}"
            yield Finding("charge amount", charge_id, what, abs(charge.amount_idr - idr))
        elif told["order_id"] in shown_paid and not charge.settled:
            yield Finding("charge unsettled", charge_id, "shown paid, not settled at the provider", idr)


def told_refunds(case: Case) -> Iterator[Finding]:
    """Each refund told is recorded with its amount and is one of its own, also when another one is equal."""
    for told in case.told["refund"]:
        order = case.recorded.get(told["order_id"])
        recorded = {(refund, idr) for refund, _, idr in order.refunds} if order else set()
        if (told["refund_id"], told["amount_idr"]) not in recorded:
            yield Finding("refund lost", told["refund_id"], "told to a shopper, not recorded at marketplace")
    for refund_id, times in Counter(told["refund_id"] for told in case.told["refund"]).items():
        if times > 1:
            yield Finding("refund lost", refund_id, f"told for {times} attempts, which is one refund for all of them")


def given_refunds(case: Case) -> Iterator[Finding]:
    """What the provider gave back is what the marketplace has recorded as given back, refund by refund."""
    given: defaultdict[str, list[Any]] = defaultdict(list)
    for charge in case.collected:
        given[charge.order_id] += charge.refunds
    for order_id in given.keys() | case.recorded.keys():
        order = case.recorded.get(order_id)
        recorded = [refund[1:] for refund in order.refunds] if order else []
        if sorted(recorded) != sorted(given[order_id]):
            what = f"{len(given[order_id])} given back by the provider, {len(recorded)} recorded, or of other amounts"
            yield Finding("refunds differ", order_id, what)


def stock(case: Case) -> Iterator[Finding]:
    """On both sides: pieces at the opening less pieces told as sold are on hand, and never less than none."""
    sold = Counter[str]()
    for lines in (*(told["lines"] for told in case.told["order"]), *(order.lines for order in case.tried())):
        for product, quantity in lines:
            sold[product] += quantity
    for keeper, books in case.books.items():
        for product, before in case.opening.stock.items():
            now = books.stock.get(product)
            if now is None or now < 0 or now != before - sold[product]:
                what = f"{before} at the opening, {sold[product]} sold, {now} on hand at {keeper}"
                yield Finding("stock", product, what)


def unbalanced_ledgers(case: Case) -> Iterator[Finding]:
    """Each order's entries sum to zero, on both sides."""
    for keeper, books in case.books.items():
        for order_id, order in (books.orders | books.own).items():
            if order.balance_idr:
                yield Finding("ledger", order_id, f"{order.balance_idr} rupiah out of balance at {keeper}")


def other_hosts(case: Case) -> Iterator[Finding]:
    """Every URL that an answer gave the shoppers stays on the host that they called."""
    called = {line["host"] for line in case.told["request"]}
    for line in case.told["host"]:
        if line["host"] not in called:
            yield Finding("host", line["host"], f"named by {line['seen_in']}")


def failed_requests(case: Case) -> Iterator[Finding]:
    """Every request was answered, and no answer contradicted another."""
    failed = Counter(
        f"{line['call']}: {line['status'] or 'no answer'} {line['why']}"
        for line in case.told["request"]
        if line["verdict"] == "failed"
    )
    for call, times in failed.items():
        yield Finding("request failed", call, f"{times} times")
    for line in case.told["contradiction"]:
        ids = " ".join(str(line[name]) for name in ("order_id", "charge_id", "shop_id") if name in line)
        yield Finding("contradiction", ids or line["call"], f"{line['call']}: {line['why']}")


ORDERS = (told_orders, doubled_orders, both_sides, past_orders, stock)
MONEY = (doubled_charges, unaccounted, told_charges, told_refunds, given_refunds, unbalanced_ledgers)
CHECKS = (*ORDERS, *MONEY, other_hosts, failed_requests)
