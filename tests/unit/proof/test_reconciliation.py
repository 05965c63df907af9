"""What counts as a difference, as open, as a claim: pure."""

from datetime import UTC, datetime, timedelta

import pytest

from alih.model.side import Side
from alih.postgres.sales import Booked, Charge, Refund, Sale
from alih.postgres.seen import Turned
from alih.proof.history import History, Period
from alih.proof.reconciliation import Difference, Tally, Word, differences, young

AT = datetime(2026, 11, 24, 16, 59, 59, tzinfo=UTC)  # one second before midnight in Jakarta
SINCE = AT - timedelta(days=1)


def charge(reference: str = "r1", amount: int = 100, *, settled: bool = True, at: datetime = AT) -> Charge:
    return Charge("social", reference, amount, settled, at, at if settled else None)


def sale(*, amount: int = 100, refunds: tuple[Refund, ...] = (), booked: int | None = None, **given: object) -> Sale:
    charges = given.get("charges", (charge(),))
    assert isinstance(charges, tuple)
    left = sum(c.amount_idr for c in charges if c.settled) - sum(r.amount_idr for r in refunds if r.settled)
    entries = (Booked("1", left if booked is None else booked),)
    return Sale(tenant="7", order="17", amount_idr=amount, at=AT, charges=charges, refunds=refunds, entries=entries)


def word(reference: str = "r1", gross: int = 100, **given: object) -> Word:
    known: dict[str, object] = {
        "tenant": "7", "payee": "social", "settled_at": AT, "refunds": (), "delivered": True, "received_at": AT,
    }  # fmt: skip
    return Word(reference=reference, gross_idr=gross, **(known | given))  # type: ignore[arg-type]


def found(sale: Sale, *words: Word, since: datetime = SINCE) -> list[Difference]:
    return differences(sale, {word.reference: word for word in words}, since)


TWO = (Refund("a", 20, settled=True), Refund("b", 20, settled=True))


@pytest.mark.parametrize(
    ("sold", "words", "expected"),
    [
        (sale(), [word()], []),
        (sale(refunds=TWO), [word(refunds=(("a", 20), ("b", 20)))], []),
        (sale(charges=(charge("r0", settled=False), charge())), [word()], []),
        (sale(amount=99), [word()], [Difference("order and charge differ", 1)]),
        (sale(booked=200), [word()], [Difference("ledger and charge differ", 100)]),
        (sale(), [], [Difference("the provider has not settled the charge", 100)]),
        (sale(), [word(gross=101)], [Difference("charge and provider differ", 1)]),
        (sale(), [word(payee="marketplace")], [Difference("the provider collected for another account", 100)]),
        (
            sale(charges=(charge(settled=False),)),
            [word()],
            [Difference("the owner has not recorded what the provider settled", 100)],
        ),
        (
            sale(charges=(charge(), charge("r2"))),
            [word(), word("r2")],
            [Difference("the order was charged more than once", 100)],
        ),
        (
            sale(refunds=TWO),
            [word(refunds=(("a", 20),))],
            [Difference("a refund of the owner is missing at the provider", 20)],
        ),
        (
            sale(refunds=TWO[:1]),
            [word(refunds=(("a", 20), ("b", 20)))],
            [Difference("a refund of the provider is missing at the owner", 20)],
        ),
        (
            sale(refunds=(Refund("a", 20, settled=False),)),
            [word(refunds=(("a", 20),))],
            [Difference("a refund of the provider is missing at the owner", 20)],
        ),
    ],
)
def test_differences(sold: Sale, words: list[Word], expected: list[Difference]) -> None:
    assert found(sold, *words) == expected


def test_what_settled_before_alih_looked_is_compared_with_everything_but_the_provider() -> None:
    later = AT + timedelta(seconds=1)
    assert found(sale(refunds=TWO), since=later) == []
    assert found(sale(amount=99, booked=1), since=later) == [
        Difference("order and charge differ", 1),
        Difference("ledger and charge differ", 99),
    ]


@pytest.mark.parametrize(
    ("words", "after_s", "expected"),
    [
        ([], 9.9, True),
        ([], 10.0, False),
        ([word()], 10.0, False),
        ([word(received_at=AT + timedelta(seconds=5))], 14.0, True),
        ([word(delivered=False)], 3600.0, True),
    ],
)
def test_young(words: list[Word], after_s: float, expected: bool) -> None:
    assert young(sale(), words, AT + timedelta(seconds=after_s)) is expected


def tally(*turns: Turned) -> Tally:
    payees = {Side.SOURCE: "social", Side.TARGET: "marketplace"}
    return Tally(
        zone="Asia/Jakarta",
        payees=payees,
        history=History(turns),
        test_tenants=frozenset(),
        compared_since=SINCE,
    )


def test_a_day_ends_at_midnight_of_the_zone() -> None:
    counted = tally()
    counted.count(sale(), {"r1": word()})
    counted.count(sale(charges=(charge(at=AT + timedelta(seconds=1)),)), {"r1": word()})
    assert [line.day for line in counted.lines] == ["2026-11-24", "2026-11-25"]


@pytest.mark.parametrize(
    ("turns", "claims"),
    [
        ([], {}),
        ([Turned("7", AT + timedelta(seconds=1), Side.TARGET, 1)], {}),
        ([Turned("8", AT - timedelta(seconds=1), Side.TARGET, 1)], {}),
        (
            [Turned("7", AT, Side.TARGET, 1)],
            {("7", "2026-11-24", "social", "marketplace"): (60, 1)},
        ),
        (
            [Turned("7", AT - timedelta(hours=2), Side.TARGET, 1), Turned("7", AT - timedelta(hours=1), None, 3)],
            {("7", "2026-11-24", "social", "marketplace"): (60, 1)},
        ),
        (
            [Turned("7", AT - timedelta(hours=2), Side.TARGET, 1), Turned("7", AT, Side.SOURCE, 2)],
            {},
        ),
    ],
)
def test_claims_follow_the_owner_at_the_time(turns: list[Turned], claims: dict[object, object]) -> None:
    counted = tally(*turns)
    counted.count(sale(refunds=TWO), {"r1": word()})
    assert counted.claims == claims


def test_a_call_that_was_held_is_answered_in_the_next_period() -> None:
    hours = [AT + timedelta(hours=h) for h in range(4)]
    history = History([
        Turned("7", hours[1], Side.TARGET, 1), Turned("7", hours[2], Side.SOURCE, 2), Turned("7", hours[3], None, 4),
    ])  # fmt: skip
    second = timedelta(seconds=1)
    assert history.answered("7", Side.SOURCE, hours[1] - second) == history.at("7", AT)
    assert history.answered("7", Side.TARGET, hours[1] - second) == Period(hours[1], Side.TARGET, 1)
    assert history.answered("7", Side.SOURCE, hours[2] - second) == Period(hours[2], Side.SOURCE, 2)
    assert history.answered("7", Side.TARGET, hours[3]) == Period(hours[1], Side.TARGET, 1)
    assert history.at("7", hours[3]) == Period(hours[3], Side.SOURCE, 4)
    assert history.answered("8", Side.TARGET, AT) is None
    assert history.at("8", AT).epoch == 0
