"""Reads both sides' books and the provider's word, and matches them: `alih.proof.reconciliation` says how.

What differs at first sight is looked at again, with the provider asked anew: sales, notices and flips go on meanwhile.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

from alih.model.side import Side
from alih.postgres.sales import Charge, Sale
from alih.postgres.seen import SeenStore
from alih.proof.history import History
from alih.proof.provenance import Provider
from alih.proof.reconciliation import Difference, Reconciliation, Tally, Word, differences, young
from alih.proof.sales import Ledgers

_LOOKS, _LOOK_PAUSE_S = 3, 0.5
_AT_ONCE = 8


class Settlement(Protocol):
    """The provider's last word about a reference, by its notices: `alih.postgres.custody`."""

    @property
    def tenant(self) -> str: ...
    @property
    def reference(self) -> str: ...
    @property
    def payee(self) -> str: ...
    @property
    def gross_idr(self) -> int: ...
    @property
    def settled_at(self) -> datetime: ...
    @property
    def refunds(self) -> Sequence[tuple[str, int]]: ...
    @property
    def delivered(self) -> bool: ...
    @property
    def received_at(self) -> datetime: ...


class Notices(Protocol):
    """The notices that alih keeps: `alih.postgres.custody.Custody`."""

    async def settlements(self, since: datetime) -> Sequence[Settlement]: ...


class _Doubtful(NamedTuple):
    """A sale that does not match, with the provider's words about it."""

    sale: Sale
    differences: Sequence[Difference]
    words: Mapping[str, Word]


class Reconciler:
    """Matches the money of everything that was sold. `payees` name the account of each side's operator."""

    def __init__(
        self,
        ledgers: Ledgers,
        notices: Notices,
        provider: Provider,
        seen: SeenStore,
        payees: Mapping[Side, str],
        zone: str,
        *,
        look_pause_s: float = _LOOK_PAUSE_S,
    ) -> None:
        self._ledgers = ledgers
        self._notices = notices
        self._provider = provider
        self._seen = seen
        self._payees = payees
        self._zone = zone
        self._pause_s = look_pause_s

    async def reconcile(self) -> Reconciliation:
        """Compare every sale, test sales too. Raises Retryable while the provider or a database cannot be asked."""
        since = (await self._seen.since()).replace(microsecond=0)  # shops may keep whole seconds
        tally = Tally(
            zone=self._zone,
            payees=self._payees,
            history=History(await self._seen.turns()),
            test_tenants=self._ledgers.test_tenants,
            compared_since=since,
        )
        words = _by_reference(await self._notices.settlements(since))
        suspects, unmet = await self._first_sight(tally, words)
        orders = await self._ledgers.with_references(unmet)
        await self._look_again(tally, words, suspects | set(orders.values()))
        owned = await self._owned(orders.values())
        _orphans(tally, [words[reference] for reference in unmet if orders.get(reference) not in owned])
        await self._misplaced(tally)
        return tally.result()

    async def _first_sight(self, tally: Tally, words: Mapping[str, Word]) -> tuple[set[str], list[str]]:
        """Counts what matches; gives the orders that do not, and the provider's references that no sale has."""
        suspects: set[str] = set()
        unmet = set(words)
        async for _, sale in self._ledgers.recorded():
            unmet.difference_update(charge.reference for charge in sale.charges)
            if differences(sale, words, tally.compared_since):
                suspects.add(sale.order)
            else:
                tally.count(sale, words)
        return suspects, sorted(unmet)

    async def _look_again(self, tally: Tally, words: Mapping[str, Word], suspects: set[str]) -> None:
        """Counts what matches after all, and judges the rest."""
        left: dict[str, _Doubtful] = {}
        for look in range(_LOOKS):
            if look and suspects:
                await asyncio.sleep(self._pause_s)
            left = await self._doubtful(tally, words, suspects)
            suspects = set(left)
        for doubtful in left.values():
            _judge(tally, doubtful)

    async def _doubtful(self, tally: Tally, words: Mapping[str, Word], suspects: set[str]) -> "dict[str, _Doubtful]":
        placed = await self._ledgers.placed(suspects)
        sales = [found.sale for found in placed.values() if found.sale is not None]
        fresh = await self._asked(tally, words, sales)
        left: dict[str, _Doubtful] = {}
        for sale in sales:
            if found := differences(sale, fresh, tally.compared_since):
                left[sale.order] = _Doubtful(sale, found, fresh)
            else:
                tally.count(sale, fresh)
        return left

    async def _owned(self, orders: Collection[str]) -> set[str]:
        """Those of the orders that their owner has: a copy without an original is no record."""
        return {order for order, placed in (await self._ledgers.placed(orders)).items() if placed.sale is not None}

    async def _asked(self, tally: Tally, words: Mapping[str, Word], sales: Sequence[Sale]) -> dict[str, Word]:
        """The words about these sales, the provider asked anew."""
        turn = asyncio.Semaphore(_AT_ONCE)
        charges = [
            (sale.tenant, charge)
            for sale in sales
            for charge in sale.charges
            if not charge.settled or (charge.settled_at or charge.at) >= tally.compared_since
        ]
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(self._ask(tenant, charge, words, turn)) for tenant, charge in charges]
        return {word.reference: word for task in asked if (word := task.result())}

    async def _ask(
        self, tenant: str, charge: Charge, words: Mapping[str, Word], turn: asyncio.Semaphore
    ) -> Word | None:
        known = words.get(charge.reference)
        payee = known.payee if known else charge.payee
        if payee not in self._payees.values():
            return known
        async with turn:
            status = await self._provider.status(charge.reference, payee)
        if status is None or not status.settled:
            return known
        refunds = tuple((key, amount) for key, amount in status.refunds)
        if known is not None:
            return replace(known, gross_idr=status.gross_idr, refunds=refunds)
        at = charge.settled_at or charge.at
        return Word(
            tenant=tenant,
            reference=charge.reference,
            payee=payee,
            gross_idr=status.gross_idr,
            settled_at=at,
            refunds=refunds,
            delivered=True,
            received_at=at,
        )

    async def _misplaced(self, tally: Tally) -> None:
        """What stands in the wrong ledger is in no owner's sums, so nothing else would name it."""
        wrong = await self._ledgers.misplaced()
        placed = await self._ledgers.placed(each.order for each in wrong)
        for each in wrong:
            sale = placed[each.order].sale
            what = f"stands in the ledger of the {each.side}, which does not own the shop"
            tally.miss(each.tenant, each.order, sale, [Difference(what, abs(each.received_idr))])


def _judge(tally: Tally, doubtful: _Doubtful) -> None:
    sale, found, words = doubtful
    if young(sale, [words[c.reference] for c in sale.charges if c.reference in words], datetime.now(UTC)):
        tally.leave_open(sale.amount_idr)
    else:
        tally.count(sale, words)
        tally.miss(sale.tenant, sale.order, sale, found)


def _orphans(tally: Tally, words: Iterable[Word]) -> None:
    for word in words:
        if young(None, [word], datetime.now(UTC)):
            tally.leave_open(word.gross_idr)
        else:
            tally.miss_order(word)


def _by_reference(settlements: Iterable[Settlement]) -> dict[str, Word]:
    """One word for each reference: a notice that came to a wrong shop as well need not be delivered there."""
    words: dict[str, Word] = {}
    for each in settlements:
        word = Word(
            tenant=each.tenant,
            reference=each.reference,
            payee=each.payee,
            gross_idr=each.gross_idr,
            settled_at=each.settled_at,
            refunds=tuple((key, amount) for key, amount in each.refunds),
            delivered=each.delivered,
            received_at=each.received_at,
        )
        known = words.get(word.reference)
        if known is None or (word.delivered, word.received_at) > (known.delivered, known.received_at):
            words[word.reference] = word
    return words
