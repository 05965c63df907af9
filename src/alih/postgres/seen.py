"""The store of the sales seen at the gateway, and of the times at which owners changed, in the control database."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString, NamedTuple

from alih.model.side import Side
from alih.postgres.line import Line
from alih.postgres.sql import query


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call at the gateway that is a sale. `side` is None if no side has answered it; `epoch` is that under which
    the side owned the tenant."""

    order: str
    tenant: str
    side: Side | None
    epoch: int | None
    at: datetime
    status: int


class Place(NamedTuple):
    """How far a file has been read, in bytes; `file` is its inode."""

    file: int
    offset: int


class Turned(NamedTuple):
    """A change in who owns a tenant, or under which epoch (an attempt that was aborted uses epochs up)."""

    tenant: str
    at: datetime
    side: Side | None  # None: the same as before
    epoch: int


class SeenStore:
    """Calls on one `line` come one after another; its loss raises Retryable."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def install(self) -> None:
        """Make the tables; from the first time on, sales are held to have been seen."""
        async with self._line.connection() as connection:
            await connection.execute(query("seen"))

    async def since(self) -> datetime:
        """When alih began to look."""
        since: datetime
        ((since,),) = await self._fetch("SELECT since FROM alih_control.seen_log")
        return since

    async def place(self) -> Place:
        ((file, place),) = await self._fetch("SELECT file, place FROM alih_control.seen_log")
        return Place(file, place)

    async def keep(self, calls: Sequence[Call], place: Place) -> None:
        """Store what was read of the log up to `place`, with that: all of it or nothing."""
        rows = [(c.order, c.tenant, c.side and c.side.value, c.epoch, c.at, c.status) for c in calls]
        async with self._line.connection() as connection, connection.transaction(), connection.cursor() as cursor:
            await cursor.executemany(
                "INSERT INTO alih_control.seen (order_id, tenant, side, epoch, at, status)"
                " VALUES (%s, %s, %s, %s, %s, %s)",
                rows,
            )
            await cursor.execute("UPDATE alih_control.seen_log SET file = %s, place = %s", place)

    async def calls(self, order: str) -> list[Call]:
        """What was seen of an order, oldest first."""
        rows = await self._fetch(
            "SELECT order_id, tenant, side, epoch, at, status FROM alih_control.seen WHERE order_id = %s"
            " ORDER BY at, id",
            (order,),
        )
        return [
            Call(order=order, tenant=tenant, side=side and Side(side), epoch=epoch, at=at, status=status)
            for order, tenant, side, epoch, at, status in rows
        ]

    async def orders(self) -> dict[str, str]:
        """Order → tenant of every sale that a side has answered well."""
        return dict(
            await self._fetch(
                "SELECT DISTINCT order_id, tenant FROM alih_control.seen"
                " WHERE side IS NOT NULL AND status BETWEEN 200 AND 299"
            )
        )

    async def turns(self, tenants: Iterable[str] | None = None) -> list[Turned]:
        """All changes of owner or epoch (of these tenants), oldest first."""
        rows = await self._fetch(
            "SELECT tenant, at, detail ->> 'owner', (detail ->> 'epoch')::bigint FROM alih_control.journal"
            " WHERE phase IN ('flipped', 'aborting') AND (%(tenants)s::text[] IS NULL OR tenant = ANY(%(tenants)s))"
            " ORDER BY id",
            {"tenants": None if tenants is None else list(tenants)},
        )
        return [Turned(tenant, at, side and Side(side), epoch) for tenant, at, side, epoch in rows]

    async def _fetch(
        self, statement: LiteralString, parameters: Sequence[object] | Mapping[str, object] = ()
    ) -> list[tuple[Any, ...]]:
        async with self._line.connection() as connection:
            return await (await connection.execute(statement, parameters)).fetchall()
