"""The ledgers of both sides, and which of them counts for a sale.

The side that does not own a shop holds copies, which come later than what they are copies of. So it is read first:
whatever it has by then, the owner has too.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from alih.errors import Refused
from alih.model.side import Ownership, Side
from alih.postgres.recorded import EVERYBODY, Tenants, tenants_of
from alih.postgres.sales import Booked, Books, Charge, Pending, Refund, Sale
from alih.postgres.seen import SeenStore

__all__ = ["Booked", "Charge", "Ledgers", "Misplaced", "Owners", "Pending", "Placed", "Refund", "Sale"]

_AT_ONCE = 500  # sales read by one query
_OPEN_FOR = timedelta(days=7)  # a charge older than that is not asked about any more: no provider keeps one so long
_LOOKS, _LOOK_PAUSE_S = 3, 0.5


class Owners(Protocol):
    """Who owns a tenant: `alih.postgres.control.Control`."""

    async def owner(self, tenant: str) -> Ownership: ...
    async def owned_by(self, side: Side) -> list[str]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """A sale as both sides have it. `owner` is None if no side has anything of it, `sale` what the owner has.

    `foreign` are entries in the ledger of the other side that the owner's ledger does not have.
    """

    order: str
    owner: Ownership | None
    sale: Sale | None
    foreign: tuple[Booked, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Misplaced:
    """A sale with entries in the ledger of `side`, which does not own the shop."""

    tenant: str
    order: str
    side: Side
    entries: tuple[Booked, ...]

    @property
    def received_idr(self) -> int:
        return sum(entry.received_idr for entry in self.entries)


class Ledgers:
    """Both sides' books. Sales of `test_tenants` are left out of every population; asked for by name, they are read
    like others."""

    def __init__(
        self,
        books: Mapping[Side, Books],
        owners: Owners,
        seen: SeenStore,
        test_tenants: Collection[str] = (),
        *,
        look_pause_s: float = _LOOK_PAUSE_S,
    ) -> None:
        self.test_tenants = frozenset(test_tenants)
        self._books = books
        self._owners = owners
        self._seen = seen
        self._pause_s = look_pause_s

    async def sale(self, order: str) -> Mapping[Side, Sale | None]:
        """What each side has recorded of an order, the owner's side read last."""
        (placed,) = await self._read([order])
        return placed.sides

    async def placed(self, orders: Iterable[str]) -> dict[str, Placed]:
        """These orders as both sides have them."""
        found: dict[str, Placed] = {}
        for part in _parts(sorted(set(orders))):
            found.update({read.order: _placed(read) for read in await self._read(part)})
        return found

    async def open_charges(self) -> list[Pending]:
        """The charges that their owner still has open, test sales' too."""
        since = datetime.now(UTC) - _OPEN_FOR
        return [
            charge for side, tenants in (await self._owned()).items()
            for charge in await self._books[side].pending(since, tenants)
        ]  # fmt: skip

    async def recorded(self) -> AsyncIterator[tuple[Side, Sale]]:
        """Every sale with money, as its owner has it; test sales too."""
        for side, tenants in (await self._owned()).items():
            async for sale in self._books[side].all_paid(tenants):
                yield side, sale

    async def with_references(self, references: Sequence[str]) -> dict[str, str]:
        """Reference → order of the charges that either side has."""
        found: dict[str, str] = {}
        for part in _parts(references):
            for books in self._books.values():
                found.update(await books.with_references(part))
        return found

    async def population(self) -> list[str]:
        """The orders an audit draws from: settled sales seen at the gateway, and settled sales that the owner has
        recorded since alih began to look there. In the order of their ids, without test sales."""
        since = await self._seen.since()
        known: dict[str, str] = {}
        for side, tenants in (await self._owned()).items():
            known |= await self._books[side].settled_since(since, tenants)
        seen = await self._seen.orders()
        placed = await self.placed(seen.keys() - known.keys())
        unsettled = {order for order, found in placed.items() if found.sale and not found.sale.settled}
        # what is left of the seen ones was settled before, or is recorded nowhere
        chosen = {order: tenant for order, tenant in (seen | known).items() if order not in unsettled}
        return sorted(order for order, tenant in chosen.items() if tenant not in self.test_tenants)

    async def sampled(self, number: int, seed: int) -> tuple[list[str], int]:
        """`number` orders of the population (or all, if there are fewer), the same for the same seed; and its size."""
        orders = await self.population()
        drawn = random.Random(seed).sample(orders, min(number, len(orders)))  # noqa: S311 - to be drawn again
        return drawn, len(orders)

    async def misplaced(self) -> list[Misplaced]:
        """Every sale that has entries in the ledger of the side that does not own the shop and not in the owner's, in
        the order of their ids; test sales are left to their trials."""
        suspects: set[str] = set()
        for side, tenants in (await self._owned()).items():
            copies, books = self._books[side.other], self._books[side]
            theirs = await copies.fingerprints(tenants)
            suspects.update(stray.order for stray in await copies.strays(tenants))
            ours = await books.fingerprints(tenants)
            suspects.update(order for order, print_ in theirs.items() if ours.get(order) != print_)
        found = await self.persisting(suspects, lambda placed: bool(placed.foreign))
        wrong = [_misplaced(placed) for placed in found.values()]
        return sorted((w for w in wrong if w.tenant not in self.test_tenants), key=lambda each: each.order)

    async def persisting(self, orders: Iterable[str], wrong: "Judge") -> dict[str, Placed]:
        """Those of the orders that are wrong, and still are after some looks: both sides are written to meanwhile."""
        left = set(orders)
        found: dict[str, Placed] = {}
        for look in range(_LOOKS):
            if look and left:
                await asyncio.sleep(self._pause_s)
            found = {order: placed for order, placed in (await self.placed(left)).items() if wrong(placed)}
            left = set(found)
        return found

    async def _owned(self) -> dict[Side, Tenants]:
        moved = await self._owners.owned_by(Side.TARGET)
        return {side: tenants_of(side, moved) for side in Side}

    async def _read(self, orders: Sequence[str]) -> "list[_Read]":
        """The target, the source, and the target again: one of its two readings comes before the source's and one
        behind it, so there is a right one for either owner."""
        source, target = self._books[Side.SOURCE], self._books[Side.TARGET]
        before, before_strays = await target.sales(orders), await _strays(target, orders)
        here, here_strays = await source.sales(orders), await _strays(source, orders)
        tenants = {o: sale.tenant for o, sale in [*before.items(), *here.items()]}
        tenants |= {o: tenant for o, (tenant, _) in [*before_strays.items(), *here_strays.items()] if o not in tenants}
        owners = {tenant: await self._owner(tenant) for tenant in set(tenants.values())}
        moved = [o for o in orders if o in tenants and owners[tenants[o]].side is Side.TARGET]
        after, after_strays = await target.sales(moved), await _strays(target, moved)
        there = {o: after.get(o) if o in moved else before.get(o) for o in orders}
        there_strays = {o: (after_strays if o in moved else before_strays).get(o) for o in orders}
        return [
            _Read(
                order=order,
                owner=owners[tenants[order]] if order in tenants else None,
                sides={Side.SOURCE: here.get(order), Side.TARGET: there[order]},
                strays={Side.SOURCE: _only(here_strays.get(order)), Side.TARGET: _only(there_strays[order])},
            )
            for order in orders
        ]

    async def _owner(self, tenant: str) -> Ownership:
        try:
            return await self._owners.owner(tenant)
        except Refused:  # one that opened since: nobody has taken it anywhere
            return Ownership(tenant, Side.SOURCE, 0)


class Judge(Protocol):
    def __call__(self, placed: Placed, /) -> bool: ...


_Strays = tuple[str, tuple[Booked, ...]]  # tenant, entries


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    order: str
    owner: Ownership | None
    sides: Mapping[Side, Sale | None]
    strays: Mapping[Side, tuple[Booked, ...]]

    def entries(self, side: Side) -> tuple[Booked, ...]:
        sale = self.sides[side]
        return (sale.entries if sale else ()) + self.strays[side]


def _placed(read: _Read) -> Placed:
    if read.owner is None:
        return Placed(order=read.order, owner=None, sale=None, foreign=())
    own = set(read.entries(read.owner.side))
    foreign = tuple(entry for entry in read.entries(read.owner.side.other) if entry not in own)
    return Placed(order=read.order, owner=read.owner, sale=read.sides[read.owner.side], foreign=foreign)


def _misplaced(placed: Placed) -> Misplaced:
    if placed.owner is None:
        raise AssertionError("what is misplaced has an owner")
    owner = placed.owner
    return Misplaced(tenant=owner.tenant, order=placed.order, side=owner.side.other, entries=placed.foreign)


async def _strays(books: Books, orders: Sequence[str]) -> dict[str, _Strays]:
    found: dict[str, _Strays] = {}
    for tenant, order, entry in await books.strays(EVERYBODY, orders) if orders else ():
        found[order] = tenant, (*found.get(order, ("", ()))[1], entry)
    return found


def _only(strays: _Strays | None) -> tuple[Booked, ...]:
    return strays[1] if strays else ()


def _parts(orders: Sequence[str]) -> Iterable[Sequence[str]]:
    return (orders[start : start + _AT_ONCE] for start in range(0, len(orders), _AT_ONCE))
