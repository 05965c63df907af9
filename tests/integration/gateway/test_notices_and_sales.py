"""Payment notices go to custody, whoever owns the tenant; calls that are sales leave a line each, others none."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from alih.gateway.bootstrap import SALES_LOG, Addresses, Sold, bootstrap
from alih.gateway.envoy import Envoy
from alih.gateway.routes import Destination, IdForm, route_table
from alih.model.contract import Gateway
from tests.integration.gateway.world import BackEnd, Shop, back_end, free_port
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

SOURCE, TARGET, GATE = Destination.SOURCE, Destination.TARGET, Destination.GATE
NOTICES = "/api/shops/{shop_id}/payments/notices"
SOLD = Sold(method="POST", path="/api/shops/{shop_id}/orders/{order_id}/payment")
TABLE = route_table(1, SOURCE, {"17": TARGET, "18": GATE, "@shared": GATE}, NOTICES)


@dataclass
class Seen:
    """A gateway with custody and a log of sales; tenant 17 is at the target, 18 at the gate, others at the source."""

    shop: Shop
    custody: BackEnd
    log: Path

    async def post(self, path: str, method: str = "POST", *headers: str) -> tuple[str, bytes]:
        """Who was asked, and the head and body of the answer."""
        back_ends = (*self.shop.back_ends, self.custody)
        before = {b.name: len(b.executions) for b in back_ends}
        lines = (f"{method} {path} HTTP/1.1", "Host: h", "Content-Length: 2", *headers, "Connection: close", "", "{}")
        answer = await self.shop.talk("\r\n".join(lines))
        met = [b.name for b in back_ends if len(b.executions) > before[b.name]]
        return (met[0] if met else answer.split(b" ")[1].decode()), answer

    async def lines(self, count: int) -> list[dict[str, Any]]:
        """The log, once it has so many lines."""

        def there() -> bool:
            return self.log.exists() and self.log.read_bytes().count(b"\n") >= count

        await until(there)
        return [json.loads(line) for line in self.log.read_text().splitlines()]


async def _claims_to_be_the_target(_request: web.Request) -> web.Response:
    return web.json_response({}, headers={"X-Alih-Side": "target"})


@asynccontextmanager
async def seen(directory: Path, gate_says: str = "target") -> AsyncIterator[Seen]:
    async def gate_answers(_request: web.Request) -> web.Response:
        return web.json_response({}, headers={"X-Alih-Side": gate_says} if gate_says else {})

    async with (
        back_end("front") as front,
        back_end("source", _claims_to_be_the_target) as source,
        back_end("target") as target,
        back_end("gate", gate_answers) as gate,
        back_end("custody") as custody,
    ):
        gateway = Gateway(
            listen=f"127.0.0.1:{free_port()}",
            front=front.address,
            source=source.address,
            target="127.0.0.1:1",
            tenant_path="/api/shops/{shop_id}",
            shared_paths=("/api/me",),
            request_max_ms=2000,
        )
        addresses = Addresses(adapter=target.address, gate=gate.address, custody=custody.address)
        config = bootstrap(gateway, directory=directory, addresses=addresses, ids=IdForm.INTEGER, sold=SOLD)
        async with Envoy(directory, config) as envoy:
            await envoy.publish(TABLE)
            port = int(gateway.listen.rpartition(":")[2])
            yield Seen(Shop(envoy, port, front, source, target, gate), custody, directory / SALES_LOG)


async def test_every_tenants_notices_go_to_custody_with_the_tenants_name(tmp_path: Path) -> None:
    async with seen(tmp_path) as s:
        for tenant in ("17", "18", "19"):
            path = f"/api/shops/{tenant}/payments/notices"
            assert (await s.post(path, "POST", "x-alih-tenant: 1"))[0] == "custody"
        assert [(e.method, e.path, e.header("x-alih-tenant"), e.body) for e in s.custody.executions] == [
            ("POST", f"/api/shops/{tenant}/payments/notices", tenant, b"{}") for tenant in ("17", "18", "19")
        ]


async def test_other_calls_go_where_they_went(tmp_path: Path) -> None:
    async with seen(tmp_path) as s:
        reached = {
            (method, path): (await s.post(path, method))[0]
            for method, path in (
                ("GET", "/api/shops/17/payments/notices"),
                ("POST", "/api/shops/17/payments/notices/1"),
                ("POST", "/api/shops/18/payments"),
                ("POST", "/api/shops/19/xpayments/notices"),
                ("POST", "/x/api/shops/17/payments/notices"),
                ("POST", "/api/shops/017/payments/notices"),
                ("POST", "/api/shops/19/../17/payments/notices"),
                ("POST", "/api/me/payments/notices"),
            )
        }
        assert s.custody.executions == []
    assert list(reached.values()) == ["target", "target", "gate", "source", "front", "400", "400", "gate"]


async def test_a_sale_leaves_one_line_and_the_side_is_not_shown_to_the_client(tmp_path: Path) -> None:
    async with seen(tmp_path) as s:
        secret = ("Cookie: s3cret", "X-Buyer-Id: s3cret")
        answers = [
            await s.post(f"/api/shops/{tenant}/orders/{order}/payment{query}", "POST", *secret)
            for tenant, order, query in (("17", "A-1", ""), ("18", "A-2", "?q=s3cret"), ("19", "A-3", ""))
        ]
        lines = await s.lines(3)
        assert [side for side, _ in answers] == ["target", "gate", "source"]
        assert [b"alih" in answer.lower() for _, answer in answers] == [False] * 3
        assert b"s3cret" not in s.log.read_bytes()
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line.pop("at")) for line in lines)
    lines.sort(key=lambda line: str(line["path"]))
    assert lines == [
        {"path": "/api/shops/17/orders/A-1/payment", "status": 200, "cluster": "target", "side": None},
        {"path": "/api/shops/18/orders/A-2/payment", "status": 200, "cluster": "gate", "side": "target"},
        # What a back end calls itself does not reach the client either; whoever reads the log believes the gate alone.
        {"path": "/api/shops/19/orders/A-3/payment", "status": 200, "cluster": "source", "side": "target"},
    ]


async def test_an_answer_of_the_gates_own_names_no_side(tmp_path: Path) -> None:
    async with seen(tmp_path, gate_says="") as s:
        await s.post("/api/shops/18/orders/A-1/payment")
        (line,) = await s.lines(1)
    assert (line["cluster"], line["side"]) == ("gate", None)


async def test_nothing_but_sales_is_logged(tmp_path: Path) -> None:
    async with seen(tmp_path) as s:
        for method, path in (
            ("GET", "/api/shops/17/orders/A-1/payment"),
            ("POST", "/api/shops/17/orders/A-1/payments"),
            ("POST", "/api/shops/17/orders/A-1/payment/more"),
            ("POST", "/api/shops/17/orders?x=/api/shops/17/orders/A-1/payment"),
            ("POST", "/api/shops/17/payments/notices"),
        ):
            await s.post(path, method)
        await s.post("/api/shops/17/orders/A-2/payment")
        assert [line["path"] for line in await s.lines(1)] == ["/api/shops/17/orders/A-2/payment"]
