"""Payment notices in the control database: kept, waiting, delivered; and what was refused."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, LiteralString

import msgspec

from alih.errors import Retryable
from alih.evidence.canonical import Json
from alih.evidence.entry import Entry
from alih.postgres import evidence
from alih.postgres.failures import named
from alih.postgres.line import Line
from alih.postgres.session import Connection
from alih.postgres.sql import query

WINDOW = timedelta(hours=24)
"""For how long a notice is offered to its owner."""
REFUSALS_A_MINUTE = 100
"""Refusals that become evidence in one minute; more of them are counted only, or a flood would fill the log."""
_DELIVERING = 0x616C696B
"""The advisory lock of the one process that delivers."""
_AT_ONCE_OF_A_TENANT = 4
_NOTICED_WITHIN_S = 2.0
_PAUSES_S = (0.2, 0.5, 1, 2, 5, 10, 30, 60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """A notice that was kept. `body` is what came, byte for byte."""

    id: int
    tenant: str
    path: str
    reference: str
    body: bytes = field(repr=False)
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """A notice that may be kept: verified, not yet stored. `sha256` is of its canonical form."""

    tenant: str
    path: str
    reference: str
    payee: str
    sha256: bytes
    state: str
    body: bytes = field(repr=False)
    origin: str = "notice"


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A kept notice as it is looked at later."""

    tenant: str
    reference: str
    payee: str
    body: bytes = field(repr=False)
    delivered: bool
    received_at: datetime


async def alone(connection: Connection) -> None:
    """Return when no other process delivers notices of this migration; none does while `still_alone` runs.

    Raises Retryable when the connection is lost. A process whose connection was cut notices it within some time, for
    which this waits: until then it may still be delivering.
    """
    with named("the control database"):
        await connection.execute("SELECT pg_advisory_lock(%s)", (_DELIVERING,))
    await asyncio.sleep(_NOTICED_WITHIN_S)


async def still_alone(connection: Connection) -> None:
    """Run beside the delivery: raises Retryable when the connection is lost, and with it the right to deliver."""
    while True:
        try:
            with named("the control database"):
                async with asyncio.timeout(_NOTICED_WITHIN_S / 2):
                    await connection.execute("SELECT 1")
        except TimeoutError:
            raise Retryable("the control database does not answer", remedy="bring it back") from None
        await asyncio.sleep(_NOTICED_WITHIN_S / 4)


class Custody:
    """Calls on one `line` come one after another; its loss raises Retryable."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def install(self) -> None:
        async with self._line.connection() as connection:
            await connection.execute(query("custody"))

    async def keep(self, notice: Arrived) -> bool:
        """Keep a notice for good before this returns; False if it was kept before, which is counted."""
        ((times,),) = await self._fetch(
            _KEEP,
            (notice.tenant, notice.sha256, notice.path, notice.reference, notice.payee, notice.body, notice.origin),
        )
        return bool(times == 0)

    async def refuse(self, tenant: str, reason: str, sha256: str | None, size: int | None) -> None:
        """Put a refusal on record; beyond REFUSALS_A_MINUTE they are only counted. `sha256` (hex) and `size` are of a
        body that was read, or None. A tenant that alih does not know is not named: nobody has signed that it is one."""
        async with self._line.connection() as connection, connection.transaction():
            cursor = await connection.execute(_REFUSED, (tenant, reason))
            ((times, known),) = await cursor.fetchall()
            if times <= REFUSALS_A_MINUTE:
                facts: dict[str, Json] = {"reason": reason, "tenant": known or None, "sha256": sha256, "bytes": size}
                await evidence.outbox(connection, Entry("notice_refused", facts))

    async def due(self, limit: int, under_way: Collection[int] = ()) -> list[Kept]:
        """The oldest waiting notice of each charge, if its time has come and it is not `under_way` (ids): those of one
        charge never overtake. Only a few of one tenant are given at once, so that it does not keep others waiting."""
        values = {"busy": list(under_way), "each": _AT_ONCE_OF_A_TENANT, "limit": limit}
        rows = await self._fetch(_DUE, values)
        return [
            Kept(id=number, tenant=tenant, path=path, reference=reference, body=bytes(body), attempts=attempts)
            for number, tenant, path, reference, body, attempts in rows
        ]

    async def delivered(self, notice: Kept, side: str | None) -> None:
        await self._fetch(
            "UPDATE alih_control.notice SET delivered_at = clock_timestamp(), side = %s, attempts = attempts + 1"
            " WHERE id = %s",
            (side, notice.id),
        )

    async def put_off(self, notice: Kept) -> None:
        """Offer it again later; once the window is over, never again, and that is a finding."""
        pause = _PAUSES_S[min(notice.attempts, len(_PAUSES_S) - 1)]
        async with self._line.connection() as connection, connection.transaction():
            cursor = await connection.execute(_PUT_OFF, (timedelta(seconds=pause), WINDOW, notice.id))
            ((given_up,),) = await cursor.fetchall()
            if given_up:
                what = "a payment notice was never taken by the shop's owner"
                facts = {"source": "custody", "what": what, "tenant": notice.tenant, "sale": "@reference"}
                await evidence.outbox(connection, Entry("finding", facts, {"reference": notice.reference}))

    async def states(self, references: Sequence[str]) -> dict[tuple[str, str], set[str]]:
        """The states that each charge's kept notices tell, for the sweep: (tenant, reference) → states."""
        rows = await self._fetch(
            "SELECT tenant, reference, body FROM alih_control.notice WHERE reference = ANY(%s)", (list(references),)
        )
        told: dict[tuple[str, str], set[str]] = {}
        for tenant, reference, body in rows:
            state = msgspec.json.decode(bytes(body), type=_State).transaction_status
            told.setdefault((tenant, reference), set()).add(state)
        return told

    async def stored(self, since: datetime) -> list[Stored]:
        """Every notice kept since then, in the order of arrival."""
        rows = await self._fetch(_STORED, (since,))
        return [
            Stored(tenant=tenant, reference=reference, payee=payee, body=bytes(body), delivered=done, received_at=at)
            for tenant, reference, payee, body, done, at in rows
        ]

    async def totals(self) -> dict[str, int]:
        """How many notices were kept, delivered, repeated, refused, never delivered and are waiting."""
        ((kept, delivered, repeated, undelivered, waiting, refused),) = await self._fetch(_TOTALS)
        return {
            "kept": kept, "delivered": delivered, "repeated": repeated, "refused": refused,
            "undelivered": undelivered, "waiting": waiting,
        }  # fmt: skip

    async def _fetch(
        self, statement: LiteralString, values: Sequence[object] | Mapping[str, object] = ()
    ) -> list[tuple[Any, ...]]:
        async with self._line.connection() as connection:
            cursor = await connection.execute(statement, values)
            return await cursor.fetchall() if cursor.description else []


class _State(msgspec.Struct):
    transaction_status: str


# One statement, so one transaction, and one journey; the setting holds until its commit is done, whatever the server's.
_KEEP: LiteralString = """
WITH durable AS MATERIALIZED (SELECT set_config('synchronous_commit', 'on', true))
INSERT INTO alih_control.notice (tenant, sha256, path, reference, payee, body, origin)
SELECT %s, %s, %s, %s, %s, %s, %s FROM durable
ON CONFLICT (tenant, sha256) DO UPDATE SET repeated = alih_control.notice.repeated + 1 RETURNING repeated
"""
_REFUSED: LiteralString = """
INSERT INTO alih_control.notice_refusal (tenant, reason)
VALUES (coalesce((SELECT tenant FROM alih_control.tenant WHERE tenant = %s), ''), %s)
ON CONFLICT (minute, tenant, reason) DO UPDATE SET times = alih_control.notice_refusal.times + 1
RETURNING (SELECT coalesce(sum(times), 0) + 1 FROM alih_control.notice_refusal
           WHERE minute = date_trunc('minute', clock_timestamp())), tenant
"""
_DUE: LiteralString = """
WITH oldest AS (
    SELECT DISTINCT ON (tenant, reference) id, tenant, next_at FROM alih_control.notice
    WHERE delivered_at IS NULL AND given_up_at IS NULL ORDER BY tenant, reference, id
), ready AS (
    SELECT id, id = ANY(%(busy)s::bigint[]) AS busy,
        row_number() OVER (PARTITION BY tenant ORDER BY id = ANY(%(busy)s::bigint[]) DESC, id) AS nth
    FROM oldest WHERE next_at <= clock_timestamp() OR id = ANY(%(busy)s::bigint[])
)
SELECT id, n.tenant, path, reference, body, attempts FROM alih_control.notice n JOIN ready USING (id)
WHERE NOT busy AND nth <= %(each)s ORDER BY id LIMIT %(limit)s
"""
_PUT_OFF: LiteralString = """
UPDATE alih_control.notice SET attempts = attempts + 1, next_at = clock_timestamp() + %s,
    given_up_at = CASE WHEN received_at + %s < clock_timestamp() THEN clock_timestamp() END
WHERE id = %s RETURNING given_up_at IS NOT NULL
"""
_STORED: LiteralString = """
SELECT tenant, reference, payee, body, delivered_at IS NOT NULL, received_at
FROM alih_control.notice WHERE received_at >= %s ORDER BY id
"""
_TOTALS: LiteralString = """
SELECT count(*), count(delivered_at), coalesce(sum(repeated), 0)::bigint, count(given_up_at),
       count(*) FILTER (WHERE delivered_at IS NULL AND given_up_at IS NULL),
       (SELECT coalesce(sum(times), 0)::bigint FROM alih_control.notice_refusal)
FROM alih_control.notice
"""
