"""The official client of Midtrans, as it is, against the provider's sandbox in a process of its own."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import psycopg
import pytest
from aiohttp import web
from midtransclient import CoreApi
from midtransclient.error_midtrans import MidtransAPIError
from requests.exceptions import ChunkedEncodingError, ConnectionError  # the client lets them through

from alih.postgres.embedded import Cluster
from alih.process import child
from demo.seed import create_schemas
from demo.services.payments import signature
from tests.demo.services import KEYS
from tests.support.databases import fresh_database
from tests.support.waiting import until

pytestmark = pytest.mark.anyio
AMOUNT = 145_000


@dataclass
class Sandbox:
    """The provider's process, the client, and a shop that writes down what it is told."""

    url: str
    dsn: str
    told: list[dict[str, Any]] = field(default_factory=list)
    listens: bool = True
    shop: str = ""

    def client(self, server_key: str = KEYS["social"], *, key: str = "") -> CoreApi:
        """The client of an account; `key` goes out with each of its calls."""
        client = CoreApi(is_production=False, server_key=server_key, client_key="")
        client.api_config.CORE_SANDBOX_BASE_URL = self.url
        client.api_config.custom_headers = {"X-Override-Notification": self.shop}
        if key:
            client.api_config.custom_headers["Idempotency-Key"] = key
        return client

    async def charge(self, order: str, amount: int = AMOUNT, *, key: str = "") -> dict[str, Any]:
        return await called(self.client(key=key).charge, new(order, amount))

    async def status(self, order: str) -> dict[str, Any]:
        return await called(self.client().transactions.status, order)

    async def settled(self, order: str) -> None:
        async def paid() -> bool:
            return bool((await self.status(order))["transaction_status"] == "settlement")

        await until(paid)

    async def faults(self, **shares: float) -> None:
        async with aiohttp.ClientSession() as session, session.post(f"{self.url}/sandbox/faults", json=shares) as reply:
            assert reply.status == 200

    async def hear(self, request: web.Request) -> web.Response:
        if self.listens:
            self.told.append(await request.json())
        return web.Response(status=200 if self.listens else 503)

    def states(self) -> list[str]:
        return [told["transaction_status"] for told in self.told]


def new(order: str, amount: int = AMOUNT) -> dict[str, Any]:
    return {"payment_type": "qris", "transaction_details": {"order_id": order, "gross_amount": amount}}


async def called(call: Any, *arguments: Any) -> dict[str, Any]:
    """The client's answer; it blocks, so it has a thread of its own."""
    answer = await asyncio.to_thread(call, *arguments)
    assert isinstance(answer, dict)
    return answer


async def refused(call: Any, *arguments: Any) -> str:
    """The status code of the client's error, which the body says too."""
    with pytest.raises(MidtransAPIError) as error:
        await called(call, *arguments)
    code = str(error.value.http_status_code)
    assert error.value.api_response_dict["status_code"] == code
    return code


@asynccontextmanager
async def provider(dsn: str, address: str, log: Path) -> AsyncIterator[None]:
    keys = ",".join(f"{payee}={key}" for payee, key in KEYS.items())
    environment = {"PROVIDER_DSN": dsn, "PAYEE_KEYS": keys, "SETTLE_AFTER_S": "0.05"}
    argv = [sys.executable, "-m", "demo.services.provider", "--listen", address]
    host, _, port = address.partition(":")
    async with child(argv, log=log, env=environment):

        def listening() -> bool:
            with socket.socket() as probe:
                return probe.connect_ex((host, int(port))) == 0

        await until(listening, within_s=20)
        yield


@asynccontextmanager
async def listening(sandbox: Sandbox) -> AsyncIterator[None]:
    app = web.Application()
    app.router.add_post("/notices", sandbox.hear)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    sandbox.shop = f"http://127.0.0.1:{runner.addresses[0][1]}/notices"
    yield
    await runner.cleanup()


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture(scope="module")
async def running(control_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sandbox]:
    with fresh_database(control_cluster) as dsn:
        create_schemas(provider=dsn)
        address, log = free_address(), tmp_path_factory.mktemp("provider") / "log"
        made = Sandbox(f"http://{address}", dsn)
        async with listening(made), provider(dsn, address, log):
            yield made


@pytest.fixture
async def sandbox(running: Sandbox) -> Sandbox:
    """The one process, with nothing that an earlier test left."""
    await running.faults()
    with psycopg.connect(running.dsn) as conn:
        conn.execute("TRUNCATE charges, refunds, notices, answers")
    running.told.clear()
    return running


async def test_a_charge_is_shown_as_midtrans_shows_it_and_its_notice_is_signed(sandbox: Sandbox) -> None:
    made = await sandbox.charge("A-1")
    assert (made["status_code"], made["gross_amount"], made["transaction_status"]) == ("201", "145000.00", "pending")
    assert made["qr_string"].startswith("000201")
    jakarta = datetime.strptime(made["transaction_time"], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC) - timedelta(hours=7)
    assert abs(datetime.now(UTC) - jakarta) < timedelta(minutes=5)
    await until(lambda: sandbox.states() == ["settlement"])
    (told,) = sandbox.told
    assert told["signature_key"] == signature("A-1", "200", "145000.00", KEYS["social"])
    # What the client calls handling a notification is to ask for the status by the transaction's id.
    assert await called(sandbox.client().transactions.notification, told) == told == await sandbox.status("A-1")


async def test_an_idempotency_key_repeats_the_first_success_whatever_is_asked(sandbox: Sandbox) -> None:
    key = "k-1"
    first = await sandbox.charge("A-1", key=key)
    assert await sandbox.charge("A-1", key=key) == first
    assert await sandbox.charge("A-2", 99_000, key=key) == first
    assert await called(sandbox.client(key=key).transactions.cancel, "A-1") == first
    assert await refused(sandbox.client().transactions.status, "A-2") == "404"
    assert await refused(sandbox.client().transactions.cancel, "A-2") == "404"
    # A refusal is not kept, another account's key is another key, and after five minutes the key is forgotten.
    assert await refused(sandbox.client(key="k-2").charge, new("A-1")) == "406"
    assert (await sandbox.charge("A-2", key="k-2"))["order_id"] == "A-2"
    assert (await called(sandbox.client(KEYS["marketplace"], key=key).charge, new("A-3")))["order_id"] == "A-3"
    with psycopg.connect(sandbox.dsn) as conn:
        conn.execute("UPDATE answers SET given_at = given_at - interval '5 minutes'")
    assert await refused(sandbox.client(key=key).charge, new("A-1")) == "406"


_WAITS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    " AND query LIKE '%INSERT INTO charges%'"
)


async def test_while_the_first_is_running_its_key_is_answered_with_202(sandbox: Sandbox) -> None:
    # Within one transaction PostgreSQL shows the same activity again and again.
    with psycopg.connect(sandbox.dsn) as conn, psycopg.connect(sandbox.dsn, autocommit=True) as watch:
        conn.execute("LOCK TABLE charges IN EXCLUSIVE MODE")
        async with asyncio.TaskGroup() as group:
            first = group.create_task(sandbox.charge("A-1", key="k"))

            def waiting() -> bool:
                return watch.execute(_WAITS).fetchone() == (1,)

            await until(waiting)
            assert (await sandbox.charge("A-1", key="k"))["status_code"] == "202"
            conn.rollback()
    assert first.result()["status_code"] == "201"


async def test_what_nobody_has_paid_can_be_cancelled_or_expire_and_once_only(sandbox: Sandbox) -> None:
    await sandbox.faults(slow=1.0)
    transactions = sandbox.client().transactions
    for order, end, code, state in (("C-1", "cancel", "200", "cancel"), ("E-1", "expire", "407", "expire")):
        await sandbox.charge(order)
        ended = await called(getattr(transactions, end), order)
        assert (ended["status_code"], ended["transaction_status"]) == (code, state)
        assert (await sandbox.status(order))["transaction_status"] == state
        assert await refused(getattr(transactions, end), order) == "412"
        assert await refused(transactions.refund, order, {}) == "412"
    await until(lambda: sandbox.states() == ["cancel", "expire"])


async def test_refunds_add_up_and_each_key_is_one(sandbox: Sandbox) -> None:
    await sandbox.charge("A-1")
    await sandbox.settled("A-1")
    transactions = sandbox.client().transactions
    part = {"refund_key": "r-1", "amount": 5_000, "reason": "pecah"}
    first = await called(transactions.refund, "A-1", part)
    assert (first["status_code"], first["transaction_status"]) == ("200", "partial_refund")
    assert (first["refund_amount"], first["refund_key"]) == ("5000.00", "r-1")
    assert await called(transactions.refund, "A-1", part) == first
    for _ in range(2):  # without a key each is one of its own, though they are equal
        await called(transactions.refund, "A-1", {"amount": 5_000})
    shown = await sandbox.status("A-1")
    assert [refund["refund_amount"] for refund in shown["refunds"]] == ["5000.00"] * 3
    assert len({refund["refund_key"] for refund in shown["refunds"]}) == 3
    assert shown["refund_amount"] == "15000.00"
    assert await refused(transactions.refund, "A-1", {"amount": AMOUNT - 15_000 + 1}) == "412"
    rest = await called(transactions.refundDirect, "A-1", {"refund_key": "r-rest"})
    assert (rest["transaction_status"], rest["refund_amount"]) == ("refund", f"{AMOUNT - 15_000}.00")
    assert await refused(transactions.refund, "A-1", {}) == "412"
    await until(lambda: len(sandbox.told) == 5)
    by_refunds = sorted(sandbox.told, key=lambda told: len(told.get("refunds", [])))
    assert [told.get("refund_amount") for told in by_refunds] == [
        None, "5000.00", "10000.00", "15000.00", f"{AMOUNT}.00"
    ]  # fmt: skip


async def test_every_error_is_json_that_the_client_understands(sandbox: Sandbox) -> None:
    await sandbox.charge("A-1")
    known, stranger = sandbox.client(), sandbox.client("guessed")
    assert await refused(known.transactions.status, "A-9") == "404"
    assert await refused(stranger.transactions.status, "A-1") == "401"
    assert await refused(sandbox.client(KEYS["marketplace"]).transactions.status, "A-1") == "404"
    assert await refused(known.charge, {"payment_type": "qris"}) == "400"
    assert await refused(known.charge, new("A-2", 0)) == "400"
    assert await refused(known.transactions.refund, "A-1", {"amount": -1}) == "400"
    assert await refused(known.transactions.approve, "A-1") == "404"  # there are no cards here


async def test_a_call_that_was_done_and_not_answered_is_seen_in_the_status(sandbox: Sandbox) -> None:
    await sandbox.faults(timeout_after_success=1.0)
    with pytest.raises((ChunkedEncodingError, ConnectionError)):
        await sandbox.charge("A-1", key="k")
    assert (await sandbox.charge("A-1", key="k"))["order_id"] == "A-1"
    await sandbox.settled("A-1")
    with pytest.raises((ChunkedEncodingError, ConnectionError)):
        await called(sandbox.client().transactions.refund, "A-1", {"refund_key": "r", "amount": 5_000})
    assert (await sandbox.status("A-1"))["refund_amount"] == "5000.00"


async def test_a_lost_notice_is_never_sent_and_the_status_knows(sandbox: Sandbox) -> None:
    await sandbox.faults(lost=1.0)
    await sandbox.charge("A-1")
    await sandbox.settled("A-1")
    await sandbox.faults()
    await sandbox.charge("A-2")
    await until(lambda: sandbox.states() == ["settlement"])
    assert sandbox.told[0]["order_id"] == "A-2"


async def test_late_repeated_and_reordered_notices(sandbox: Sandbox) -> None:
    await sandbox.faults(repeated=1.0)
    await sandbox.charge("A-1")
    await until(lambda: len(sandbox.told) == 2)
    assert sandbox.told[0] == sandbox.told[1]
    await sandbox.faults(late=1.0, late_s=0.3)
    await sandbox.charge("A-2")
    await sandbox.settled("A-2")
    assert len(sandbox.told) == 2
    await until(lambda: len(sandbox.told) == 3)
    await sandbox.faults(reordered=1.0)
    await sandbox.charge("A-3")
    await sandbox.settled("A-3")
    await sandbox.faults()
    await called(sandbox.client().transactions.refund, "A-3", {"amount": 5_000})
    await until(lambda: len(sandbox.told) == 5)
    assert sandbox.states()[3:] == ["partial_refund", "settlement"]


async def test_what_was_not_taken_is_told_again_after_a_restart(control_database: str, tmp_path: Path) -> None:
    create_schemas(provider=control_database)
    address = free_address()
    made = Sandbox(f"http://{address}", control_database, listens=False)
    async with listening(made):
        async with provider(control_database, address, tmp_path / "first.log"):
            await made.charge("A-1")
            await made.settled("A-1")
        made.listens = True
        async with provider(control_database, address, tmp_path / "second.log"):
            await until(lambda: made.states() == ["settlement"])
