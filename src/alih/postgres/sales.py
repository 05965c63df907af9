"""Sales as both sides have recorded them, in one form."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Any, LiteralString, NamedTuple, Self

from psycopg import sql

from alih.model.commerce import Sales
from alih.model.projection import Direction, Projection
from alih.model.side import Side
from alih.postgres.failures import named
from alih.postgres.line import Line
from alih.postgres.recorded import EVERYBODY, Recorded, Tenants
from alih.postgres.session import connect
from alih.postgres.statements import trusted

_MOST_IN_MEMORY = 2_000  # rows of a stream
_WHOLE: LiteralString = "SET LOCAL enable_nestloop = off"
"""For queries that read whole tables: just copied ones have no statistics yet, and a plan made for few rows takes
minutes."""


class Charge(NamedTuple):
    """What the provider was asked to collect for a sale."""

    payee: str
    reference: str
    amount_idr: int
    settled: bool
    at: datetime
    settled_at: datetime | None


class Refund(NamedTuple):
    """Money given back; `key` names it at the provider."""

    key: str
    amount_idr: int
    settled: bool


class Booked(NamedTuple):
    """An entry of the ledger; `received_idr` is money in, minus money out, and 0 for other accounts."""

    entry: str
    received_idr: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Sale:
    """An order and all that one side has recorded of its money. Tuples are in the order of their texts."""

    tenant: str
    order: str
    amount_idr: int
    at: datetime
    charges: tuple[Charge, ...] = ()
    refunds: tuple[Refund, ...] = ()
    entries: tuple[Booked, ...] = ()
    refunded_at: datetime | None = None  # when the last refund was begun

    @property
    def charge(self) -> Charge | None:
        """The settled charge, or else the last that was begun."""
        return max(self.charges, key=lambda charge: (charge.settled, charge.at), default=None)

    @property
    def payee(self) -> str | None:
        return self.charge.payee if self.charge else None

    @property
    def reference(self) -> str | None:
        return self.charge.reference if self.charge else None

    @property
    def charge_idr(self) -> int | None:
        return self.charge.amount_idr if self.charge else None

    @property
    def settled(self) -> bool:
        return self.charge is not None and self.charge.settled

    @property
    def settled_at(self) -> datetime | None:
        return self.charge.settled_at if self.charge else None

    @property
    def charged_idr(self) -> int:
        """All that was collected."""
        return sum(charge.amount_idr for charge in self.charges if charge.settled)

    @property
    def refunded_idr(self) -> int:
        """All that was given back."""
        return sum(refund.amount_idr for refund in self.refunds if refund.settled)

    @property
    def booked_idr(self) -> int:
        """What the ledger says is left."""
        return sum(entry.received_idr for entry in self.entries)


class Stray(NamedTuple):
    """An entry of the ledger whose order this side does not have."""

    tenant: str
    order: str
    entry: Booked


class Pending(NamedTuple):
    """A charge that has not settled."""

    tenant: str
    payee: str
    reference: str
    begun_at: datetime


class Books:
    """One side's records of sales. An async context; its queries come one after another on one connection, and
    streams have connections of their own. A lost connection raises Retryable."""

    def __init__(self, dsn: str, side: Side, sales: Sales, projections: Sequence[Projection]) -> None:
        """`projections` are those of both directions, as the contract compiles to."""
        self.side = side
        self._dsn = dsn
        self._what = f"the {side} database"
        self._line = Line(dsn, self._what)
        self._stack = AsyncExitStack()
        by_name = {(p.entity, p.direction): p for p in projections}
        given = {"orders": sales.orders, "charges": sales.charges, "refunds": sales.refunds, "books": sales.books}
        self._views = {
            role: Recorded(
                records,
                forward=by_name[records.entity, Direction.FORWARD],
                reverse=by_name[records.entity, Direction.REVERSE],
                side=side,
            )
            for role, records in given.items()
            if records is not None
        }

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self._line)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def sales(self, orders: Sequence[str]) -> dict[str, Sale]:
        """The sales of these orders that this side has."""
        if not orders:
            return {}
        ours = sql.SQL(" WHERE {}").format(EVERYBODY.condition(sql.SQL("o.tenant")))
        return {sale.order: sale for sale in map(_sale, await self._rows(self._joined(orders) + ours))}

    async def all_paid(self, tenants: Tenants) -> AsyncIterator[Sale]:
        """Every sale with money: a settled charge, or an entry in the ledger. As of one moment."""
        paid = sql.SQL(" WHERE (c.paid OR b.entries IS NOT NULL) AND {}").format(tenants.condition(sql.SQL("o.tenant")))
        async with await connect(self._dsn, self._what) as connection:
            with named(self._what):
                async with connection.transaction(), connection.cursor(name="alih_sales") as cursor:
                    # All of it is read, so the plan that gives the first rows soonest is not the one.
                    await connection.execute("SET LOCAL cursor_tuple_fraction = 1")
                    await connection.execute(_WHOLE)
                    cursor.itersize = _MOST_IN_MEMORY
                    await cursor.execute(self._joined(None) + paid)
                    async for row in cursor:
                        yield _sale(row)

    async def settled_since(self, since: datetime, tenants: Tenants) -> dict[str, str]:
        """Order → tenant, of orders placed since then whose charge has settled."""
        query = sql.SQL(
            'SELECT DISTINCT o."order", o.tenant FROM {} o JOIN {} c USING ("order")'
            " WHERE c.settled AND o.at >= {} AND {}"
        )
        orders, charges = self._views["orders"].rows(), self._views["charges"].rows()
        condition = tenants.condition(sql.SQL("o.tenant"))
        return dict(await self._of_all(query.format(orders, charges, sql.Literal(since), condition)))

    async def with_references(self, references: Sequence[str]) -> dict[str, str]:
        """Reference → order, of the charges that this side has."""
        query = sql.SQL('SELECT c.reference, c."order" FROM {} c WHERE c.reference = ANY({}::text[])')
        rows = self._views["charges"].rows()
        return dict(await self._rows(query.format(rows, sql.Literal(list(references))))) if references else {}

    async def pending(self, since: datetime, tenants: Tenants) -> list[Pending]:
        """Charges begun since then that have not settled."""
        query = sql.SQL(
            "SELECT c.tenant, c.payee, c.reference, c.at FROM {} c WHERE NOT c.settled AND c.at >= {} AND {}"
        )
        condition = tenants.condition(sql.SQL("c.tenant"))
        rows = await self._rows(query.format(self._views["charges"].rows(), sql.Literal(since), condition))
        return [Pending(*row) for row in rows]

    async def fingerprints(self, tenants: Tenants) -> dict[str, int]:
        """Order → a number that is equal on both sides if the order's entries are."""
        query = sql.SQL(
            'SELECT o."order", sum(hashtextextended(b.entry || {} || b.received, 0))::text'
            ' FROM {} o JOIN {} b USING ("order") WHERE {} GROUP BY 1'
        )
        orders, books = self._views["orders"].rows(), self._views["books"].rows()
        condition = tenants.condition(sql.SQL("o.tenant"))
        rows = await self._of_all(query.format(sql.Literal("="), orders, books, condition))
        return {order: int(total) for order, total in rows}

    async def strays(self, tenants: Tenants = EVERYBODY, orders: Sequence[str] | None = None) -> list[Stray]:
        """Entries of the ledger (for these orders) whose order this side does not have."""
        query = sql.SQL(
            'SELECT b.tenant, b."order", b.entry, b.received FROM {} b'
            ' WHERE b."order" IS NOT NULL AND NOT EXISTS (SELECT FROM {} o WHERE o."order" = b."order") AND {}'
        )
        known, books = self._views["orders"].rows(orders), self._views["books"].rows(orders)
        found = query.format(books, known, tenants.condition(sql.SQL("b.tenant")))
        rows = await (self._of_all(found) if orders is None else self._rows(found))
        return [Stray(tenant, order, Booked(entry, received)) for tenant, order, entry, received in rows]

    async def _of_all(self, query: sql.Composed) -> list[tuple[Any, ...]]:
        async with self._line.connection() as connection, connection.transaction():
            await connection.execute(_WHOLE)
            return await (await connection.execute(query)).fetchall()

    async def _rows(self, query: sql.Composed) -> list[tuple[Any, ...]]:
        async with self._line.connection() as connection:
            return await (await connection.execute(query)).fetchall()

    def _joined(self, orders: Sequence[str] | None) -> sql.Composed:
        """One row for each order (of `orders`, or of all), with what belongs to it in arrays of equal length."""
        lists = [
            sql.SQL(' LEFT JOIN (SELECT "order", {} FROM {} x GROUP BY 1) {} USING ("order")').format(
                trusted(_LISTS[role]), view.rows(orders), sql.Identifier(role[0])
            )
            for role, view in self._views.items()
            if role != "orders"
        ]
        refunds = "r.at, r.keys, r.amounts, r.settled" if "refunds" in self._views else "NULL, NULL, NULL, NULL"
        return sql.SQL(
            'SELECT o.tenant, o."order", o.amount, o.at, c.payees, c.names, c.amounts, c.settled, c.at,'
            " c.settled_at, {}, b.entries, b.received FROM {} o{}"
        ).format(trusted(refunds), self._views["orders"].rows(orders), sql.SQL("").join(lists))


# Not ordered here: sorting half a million texts takes longer than all the rest.
_LISTS = {
    "charges": "array_agg(payee) AS payees, array_agg(reference) AS names, array_agg(amount) AS amounts,"
    " array_agg(settled) AS settled, array_agg(at) AS at, array_agg(settled_at) AS settled_at,"
    " bool_or(settled) AS paid",
    "refunds": "max(at) AS at, array_agg(key) AS keys, array_agg(amount) AS amounts, array_agg(settled) AS settled",
    "books": "array_agg(entry) AS entries, array_agg(received) AS received",
}


def _sale(row: Sequence[Any]) -> Sale:
    tenant, order, amount_idr, at, *lists = row
    charges, refunded_at, refunds, entries = lists[:6], lists[6], lists[7:10], lists[10:]
    return Sale(
        tenant=tenant,
        order=order,
        amount_idr=amount_idr,
        at=at,
        charges=tuple(sorted((Charge(*c) for c in _together(charges)), key=lambda c: c.reference)),
        refunds=tuple(sorted(Refund(*r) for r in _together(refunds))),
        entries=tuple(sorted(Booked(*e) for e in _together(entries))),
        refunded_at=refunded_at,
    )


def _together(lists: Sequence[Sequence[Any] | None]) -> Sequence[Sequence[Any]]:
    return list(zip(*(values or () for values in lists), strict=True))
