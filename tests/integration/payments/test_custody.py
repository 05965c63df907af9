"""What is answered 200 is kept; what is refused is on record and changes nothing."""

import asyncio
import hashlib
import json
import time
from io import BytesIO

import psycopg
import pytest

from alih.model.commerce import Payee
from alih.postgres.custody import REFUSALS_A_MINUTE
from tests.support.custody_world import MARKETPLACE, custody_world, notices_of, told

pytestmark = pytest.mark.anyio

NOBODY = Payee(name="nobody", key="SB-other")
FORGED = told("ORDER-1", payee=NOBODY)
HIGHER = json.dumps(json.loads(told("ORDER-1")) | {"gross_amount": "145001.00"}).encode()
_KEPT = "SELECT tenant, reference, payee, origin, repeated, path FROM alih_control.notice ORDER BY id"


async def test_a_signed_notice_is_kept_before_it_is_answered(control_database: str) -> None:
    async with custody_world(control_database) as w:
        assert await w.post(told("ORDER-1")) == (200, '{"ok": true}')
        assert await w.post(told("ORDER-2", payee=MARKETPLACE), "18") == (200, '{"ok": true}')
        assert w.rows(_KEPT) == [
            ("17", "ORDER-1", "social", "notice", 0, notices_of("17")),
            ("18", "ORDER-2", "marketplace", "notice", 0, notices_of("18")),
        ]
        assert w.rows("SELECT body FROM alih_control.notice ORDER BY id LIMIT 1") == [(told("ORDER-1"),)]
        assert w.entries("notice_refused") == []


async def test_an_answered_notice_lies_on_disk_even_where_commits_need_not(control_database: str) -> None:
    async with custody_world(control_database) as w:
        w.do("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); END $$")
        w.drop_connections()
        with psycopg.connect(control_database, autocommit=True) as beside:
            behind = []
            for n in range(20):
                assert (await w.post(told(f"ORDER-{n}")))[0] == 200
                behind += beside.execute("SELECT pg_current_wal_insert_lsn() - pg_current_wal_flush_lsn()").fetchall()
            assert beside.execute("SHOW synchronous_commit").fetchall() == [("off",)]
    assert (
        sum(lag > 0 for (lag,) in behind) <= 2
    )  # the server writes things of its own; without the promise it is all 20


async def test_a_repeated_notice_is_counted_and_not_kept_twice(control_database: str) -> None:
    again = json.dumps(dict(reversed(json.loads(told("ORDER-1")).items())), indent=1).encode()
    async with custody_world(control_database) as w:
        for body in (told("ORDER-1"), told("ORDER-1"), again):
            assert (await w.post(body))[0] == 200
        assert [row[4] for row in w.rows(_KEPT)] == [2]
        totals = await w.custody.totals()
    assert totals == {"kept": 1, "delivered": 0, "repeated": 2, "refused": 0, "undelivered": 0, "waiting": 1}


async def test_two_equal_partial_refunds_are_two_notices(control_database: str) -> None:
    line = {"refund_key": "a", "refund_amount": "5000.00"}
    first = told("ORDER-1", "partial_refund", refunds=[line])
    second = told("ORDER-1", "partial_refund", refunds=[line, line | {"refund_key": "b"}])
    async with custody_world(control_database) as w:
        assert [(await w.post(body))[0] for body in (first, second)] == [200, 200]
        assert [row[4] for row in w.rows(_KEPT)] == [0, 0]


async def test_the_same_notice_at_another_shop_is_a_row_of_its_own(control_database: str) -> None:
    async with custody_world(control_database) as w:
        assert [(await w.post(told("ORDER-1"), tenant))[0] for tenant in ("17", "18")] == [200, 200]
        assert [(row[0], row[4]) for row in w.rows(_KEPT)] == [("17", 0), ("18", 0)]


REFUSED = [
    (FORGED, 403, "bad_signature"),
    (HIGHER, 403, "bad_signature"),
    (b"not json", 400, "no_notice"),
    (b"", 400, "no_notice"),
    (b"\xff\xfe", 400, "no_notice"),
    (b"[" + told("ORDER-1") + b"]", 400, "no_notice"),
    (b'"text"', 400, "no_notice"),
    (b'{"order_id": "ORDER-1"}', 400, "no_notice"),
    (told("ORDER-1", status_code=200), 400, "no_notice"),
    (told("ORDER-1", custom={"deep": json.loads("[" * 40 + "]" * 40)}), 400, "no_notice"),
    (b"[" * 100_000, 400, "no_notice"),
    (b'{"a":' * 100_000, 400, "no_notice"),
    (told("ORDER-1", number=2**60), 400, "no_notice"),
    (told("ORDER-1", gross_amount="1e5"), 400, "no_notice"),
    (told("ORDER-1\0"), 400, "no_notice"),
    (told("ORDER/../1"), 400, "no_notice"),
    (told("O" * 201), 400, "no_notice"),
    (told("ORDER-1", settlement_time="yesterday"), 400, "no_notice"),
]


async def test_a_refusal_is_on_record_and_keeps_nothing(control_database: str) -> None:
    async with custody_world(control_database) as w:
        for body, status, reason in REFUSED:
            assert await w.post(body) == (status, json.dumps({"error": reason})), body[:200]
        assert w.rows(_KEPT) == []
        assert w.rows(
            "SELECT tenant, reason, sum(times)::int FROM alih_control.notice_refusal GROUP BY 1, 2 ORDER BY 2"
        ) == [
            ("17", "bad_signature", 2),
            ("17", "no_notice", len(REFUSED) - 2),
        ]
        assert w.entries("notice_refused") == [
            {"reason": reason, "tenant": "17", "sha256": hashlib.sha256(body).hexdigest(), "bytes": len(body)}
            for body, _, reason in REFUSED
        ]


async def test_a_body_over_a_megabyte_is_refused_and_said_to_be_one(control_database: str) -> None:
    body = told("ORDER-1", padding="x" * 1_100_000)
    async with custody_world(control_database) as w:
        assert (await w.post(BytesIO(body)))[0] == 413
        assert w.rows(_KEPT) == []
        facts = {"reason": "too_large", "tenant": "17", "sha256": None, "bytes": len(body)}
        assert w.entries("notice_refused") == [facts]


async def test_only_posts_are_notices(control_database: str) -> None:
    async with custody_world(control_database) as w:
        for method in ("GET", "PUT", "DELETE"):
            assert (await w.post(told("ORDER-1"), method=method))[0] == 405
        assert w.rows(_KEPT) == []


async def test_an_amount_that_is_a_trap_costs_no_time(control_database: str) -> None:
    """The amount is read before the signature is known to be good: nobody may make that expensive."""
    async with custody_world(control_database) as w:
        began = time.monotonic()
        assert (await w.post(told("ORDER-1", gross_amount="1E+999999999")))[0] == 400
        refunds = [{"refund_key": "a", "refund_amount": "1E+999999999"}]
        assert (await w.post(told("ORDER-1", refunds=refunds)))[0] == 400
        assert time.monotonic() - began < 2.0


async def test_a_flood_of_refusals_fills_neither_log_nor_table(control_database: str) -> None:
    """Shops that nobody knows are not named: an id that was made up may be a person's name."""
    many = REFUSALS_A_MINUTE + 150
    async with custody_world(control_database) as w:
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(w.post(FORGED, f"sari-{n}")) for n in range(many)]
        assert {task.result()[0] for task in asked} == {403}
        ((minutes, rows),) = w.rows("SELECT count(DISTINCT minute), count(*) FROM alih_control.notice_refusal")
        assert rows <= minutes * 2
        assert {entry["tenant"] for entry in w.entries("notice_refused")} == {None}
        assert len(w.entries("notice_refused")) in {REFUSALS_A_MINUTE, min(many, 2 * REFUSALS_A_MINUTE)}
        assert (await w.custody.totals())["refused"] == many


async def test_many_at_once_are_each_kept_or_not_answered_well(control_database: str) -> None:
    """Notices share a connection: one's commit must not be another's."""
    async with custody_world(control_database) as w:
        async with asyncio.TaskGroup() as tasks:
            asked = [tasks.create_task(w.post(told(f"ORDER-{n}"))) for n in range(300)]
            refused = [tasks.create_task(w.post(FORGED)) for _ in range(30)]
        assert {task.result()[0] for task in asked} == {200}
        assert {task.result()[0] for task in refused} == {403}
        assert {row[1] for row in w.rows(_KEPT)} == {f"ORDER-{n}" for n in range(300)}
        assert len(w.entries("notice_refused")) == 30


async def test_while_the_store_is_away_the_provider_is_asked_to_come_again(control_database: str) -> None:
    async with custody_world(control_database) as w:
        with w.away():
            for body in (told("ORDER-1"), FORGED):
                assert await w.post(body) == (503, '{"error": "unavailable"}')
        assert await w.post(told("ORDER-1")) == (200, '{"ok": true}')
        assert [row[1] for row in w.rows(_KEPT)] == ["ORDER-1"]
