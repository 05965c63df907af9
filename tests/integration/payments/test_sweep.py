"""Charges that stay open are asked about, and what the provider says is kept like a notice it has sent."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import aiohttp
import pytest
from aiohttp import BasicAuth, web

from alih.errors import Retryable
from alih.gateway.wire import application, listening
from alih.payments.delivery import OpenCharge, Sweep
from alih.payments.midtrans import Provider
from alih.payments.words import Words
from tests.support.custody_world import (
    MARKETPLACE,
    PAYEES,
    SOCIAL,
    CustodyWorld,
    custody_world,
    notices_of,
    told,
)
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

LONG_AGO = datetime(2026, 11, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Open:
    tenant: str
    payee: str
    reference: str
    begun_at: datetime


@dataclass(eq=False)
class Midtrans:
    """The provider's status API: what it says of each charge of the account that asks; its answer comes in pieces."""

    says: dict[tuple[str, str], bytes] = field(default_factory=dict)
    status: dict[str, int] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        reference = request.path.split("/")[2]
        self.asked.append(reference)
        key = BasicAuth.decode(request.headers["Authorization"]).login
        account = next(payee.name for payee in PAYEES.values() if payee.key == key)
        body = self.says.get((reference, account), b'{"status_code": "404", "status_message": "none such"}')
        status = self.status.get(reference, 200)
        body = body if status == 200 else b'{"status_code": "500"}'
        answer = web.StreamResponse(status=status, headers={"Location": "/elsewhere"})
        await answer.prepare(request)
        for part in (body[:20], body[20:]):
            await answer.write(part)
        return answer


@dataclass
class SweepWorld:
    custody: CustodyWorld
    midtrans: Midtrans
    provider: Provider
    sweep: Sweep
    open: list[Open]


@asynccontextmanager
async def sweep_world(dsn: str) -> AsyncIterator[SweepWorld]:
    midtrans, still_open = Midtrans(), list[Open]()

    async def open_charges() -> Sequence[OpenCharge]:
        return still_open

    async with (
        custody_world(dsn) as w,
        listening(application(midtrans.handle, 1_000), "127.0.0.1", 0, grace_s=1.0) as address,
        aiohttp.ClientSession() as session,
    ):
        provider = Provider(session, f"http://{address}", PAYEES)
        yield SweepWorld(w, midtrans, provider, Sweep(w.custody, provider, open_charges, notices_of), still_open)


async def test_a_notice_that_never_came_is_recovered_and_delivered(control_database: str) -> None:
    async with sweep_world(control_database) as s:
        s.midtrans.says["ORDER-1", "social"] = told("ORDER-1")
        s.midtrans.says["ORDER-2", "marketplace"] = told("ORDER-2", "expire", payee=MARKETPLACE)
        s.midtrans.says["ORDER-3", "social"] = told("ORDER-3", "pending")
        s.open += [
            Open("17", "social", "ORDER-1", LONG_AGO),
            Open("18", "marketplace", "ORDER-2", LONG_AGO),
            Open("17", "social", "ORDER-3", LONG_AGO),
            Open("17", "social", "ORDER-4", LONG_AGO),  # the provider does not know it
            Open("17", "social", "ORDER-5", datetime.now(UTC)),  # too young to be asked about
        ]
        assert await s.sweep.sweep() == 2
        assert sorted(s.midtrans.asked) == ["ORDER-1", "ORDER-2", "ORDER-3", "ORDER-4"]
        kept = s.custody.rows(
            "SELECT tenant, reference, payee, origin, path FROM alih_control.notice ORDER BY reference"
        )
        assert kept == [
            ("17", "ORDER-1", "social", "sweep", notices_of("17")),
            ("18", "ORDER-2", "marketplace", "sweep", notices_of("18")),
        ]
        async with s.custody.delivering():
            await until(lambda: len(s.custody.source.arrived) == 2)
        assert set(s.custody.source.arrived) == {("ORDER-1", "settlement"), ("ORDER-2", "expire")}


async def test_what_was_told_is_not_kept_again_unless_at_another_shop(control_database: str) -> None:
    async with sweep_world(control_database) as s:
        for reference, tenant in (("ORDER-1", "17"), ("ORDER-2", "18")):
            await s.custody.post(told(reference), tenant)
            s.midtrans.says[reference, "social"] = told(reference, status_message="Success, transaction is found")
            s.open.append(Open("17", "social", reference, LONG_AGO))
        assert await s.sweep.sweep() == 1
        swept = s.custody.rows("SELECT tenant, reference FROM alih_control.notice WHERE origin = 'sweep'")
        assert swept == [("17", "ORDER-2")]


async def test_a_charge_is_asked_about_less_and_less_often(control_database: str) -> None:
    async with sweep_world(control_database) as s:
        s.midtrans.says["ORDER-1", "social"] = told("ORDER-1", "pending")
        s.open.append(Open("17", "social", "ORDER-1", LONG_AGO))
        assert [await s.sweep.sweep() for _ in range(5)] == [0] * 5
        assert s.midtrans.asked == ["ORDER-1"]


async def test_odd_answers_do_not_keep_other_charges_from_being_asked_about(control_database: str) -> None:
    async with sweep_world(control_database) as s:
        s.midtrans.status |= {"ORDER-1": 500, "ORDER-2": 302}
        s.midtrans.says["ORDER-3", "social"] = b"<html>"
        s.midtrans.says["ORDER-4", "social"] = told("ORDER-4", payee=MARKETPLACE)  # signed by the wrong account
        s.midtrans.says["ORDER-5", "social"] = told("ORDER-6")  # another charge's
        s.midtrans.says["ORDER-7", "social"] = told("ORDER-7")
        s.open += [Open("17", "social", f"ORDER-{n}", LONG_AGO) for n in (1, 2, 3, 4, 5, 7)]
        s.open.append(Open("17", "nobody", "ORDER-8", LONG_AGO))
        assert await s.sweep.sweep() == 1
        assert s.custody.rows("SELECT reference FROM alih_control.notice") == [("ORDER-7",)]


async def test_while_the_provider_is_away_a_sweep_ends_soon(control_database: str) -> None:
    async with sweep_world(control_database) as s:
        for n in range(50):
            s.midtrans.status[f"ORDER-{n}"] = 503
            s.open.append(Open("17", "social", f"ORDER-{n}", LONG_AGO))
        with pytest.raises(Retryable):
            await s.sweep.sweep()
        assert len(s.midtrans.asked) == 5


async def test_the_providers_word_about_a_charge(control_database: str) -> None:
    async with sweep_world(control_database) as s:
        refunds = [{"refund_key": "a", "refund_amount": "5000.00"}]
        s.midtrans.says["ORDER-1", "social"] = told("ORDER-1", "partial_refund", refunds=refunds, padding="x" * 200_000)
        status = await s.provider.status("ORDER-1", "social")
        assert status is not None
        assert (status.gross_idr, status.settled, status.refunds) == (145_000, True, (("a", 5_000),))
        assert await s.provider.status("ORDER-1", "marketplace") is None
        s.midtrans.status["ORDER-1"] = 404
        assert await s.provider.status("ORDER-1", "social") is None


async def test_the_last_word_does_not_depend_on_the_order_of_notices(control_database: str) -> None:
    first, second = ({"refund_key": key, "refund_amount": "5000.00"} for key in "ab")
    bodies = [
        told("ORDER-1", "pending"),
        told("ORDER-1"),
        told("ORDER-1", "partial_refund", refunds=[first]),
        told("ORDER-1", "partial_refund", refunds=[first, second]),
    ]
    async with custody_world(control_database) as w:
        for body in bodies:
            await w.post(body)
        for body in reversed(bodies):
            again = told(
                "ORDER-2",
                **{k: v for k, v in json.loads(body).items() if k == "refunds"},
                state=json.loads(body)["transaction_status"],
            )
            await w.post(again)
        w.do("UPDATE alih_control.notice SET delivered_at = now() WHERE reference = 'ORDER-1'")
        said = {each.reference: each for each in await Words(w.custody).settlements(LONG_AGO)}
        assert await Words(w.custody).settlements(datetime.now(UTC) + timedelta(hours=1)) == []
    for reference, delivered in (("ORDER-1", True), ("ORDER-2", False)):
        word = said[reference]
        assert (word.tenant, word.payee, word.gross_idr, word.delivered) == ("17", SOCIAL.name, 145_000, delivered)
        assert word.settled_at == datetime(2026, 11, 24, 1, 0, tzinfo=UTC)
        assert word.refunds == (("a", 5_000), ("b", 5_000))
