"""The adapter lets exactly what an operation names cross, both ways."""

import io
import json
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
import pytest
from aiohttp import web
from yarl import URL

from alih.gateway.adapter import adapter_app
from alih.gateway.wire import listening
from alih.model.contract import (
    Coded,
    Contract,
    Each,
    Endpoint,
    Entity,
    Field,
    Fixed,
    Gateway,
    History,
    Operation,
    Own,
    Place,
    Scope,
    Shape,
    Table,
    Value,
)
from alih.model.projection import Direction
from tests.integration.gateway.world import BackEnd, back_end, free_port, raw_back_end

pytestmark = pytest.mark.anyio

HERE = Place(file="alih.yaml", line=1, path="test")
SHOPS = {"17": "777", "18": "778"}
PERSONAL = "081234567890"


def _operation(name: str, front: str, target: str, **parts: Shape | str) -> Operation:
    shapes: dict[str, Shape] = {p: {} for p in ("path", "query", "headers", "request", "answer")}
    content = parts.pop("content", "json")
    shapes.update({p: shape for p, shape in parts.items() if not isinstance(shape, str)})
    method, template = front.split(" ")
    to_method, to_template = target.split(" ")
    return Operation(
        name=name,
        front=(method, template),
        target=(to_method, to_template),
        purpose="test",
        content=str(content),
        place=HERE,
        **shapes,
    )


def _v(path: str, **conversion: str) -> Value:
    return Value(path=path, **conversion)


MERCHANT = {"merchant_id": _v("path.shop_id", link="shops")}
ORDER = {**MERCHANT, "order": _v("path.order_id")}
OPERATIONS = (
    _operation(
        "place_order",
        "POST /api/shops/{shop_id}/orders",
        "POST /v2/fs/{merchant_id}/order",
        path=MERCHANT,
        query={"page": _v("query.page"), "none": _v("query.none")},
        headers={"X-User-Id": _v("header.x-buyer-id"), "Idempotency-Key": _v("header.idempotency-key")},
        request={
            "user_id": _v("body.buyer_id", cast="integer"),
            "state": _v("body.status", coded="orders.status"),
            "to": {"phone": _v("body.address.phone"), "city": _v("body.address.city")},
            "items": Each(path="body.items", shape={"id": _v("item.product_id", cast="integer"), "n": _v("item.n")}),
            "total": _v("body.total", cast="rupiah"),
            "channel": Fixed(literal="social"),
        },
        answer={
            "order_id": _v("body.data.id", cast="text"),
            "shop_id": _v("body.data.merchant", link="shops"),
            "status": _v("body.data.status", coded="orders.status"),
            "total_amount": _v("body.data.amount", cast="rupiah_text"),
            "items": Each(path="body.data.rows", shape={"title": _v("item.name"), "tags": _v("item.tags")}),
            "note": _v("body.data.note"),
            "rate": _v("body.data.rate"),
            "invoice_url": _v("body.data.invoice"),
            "processed_by": Fixed(literal="Marketplace"),
        },
    ),
    _operation(
        "order",
        "GET /api/shops/{shop_id}/orders/{order_id}",
        "GET /v2/fs/{merchant_id}/order/{order}",
        path=ORDER,
        answer={"ok": _v("body.ok")},
    ),
    _operation(
        "invoice",
        "GET /api/shops/{shop_id}/orders/{order_id}/invoice",
        "GET /v2/fs/{merchant_id}/order/{order}/doc",
        path=ORDER,
        content="html",
    ),
    _operation("thanks", "POST /api/shops/{shop_id}/thanks", "PUT /v2/fs/{merchant_id}/thanks", path=MERCHANT),
)


def _contract(target: str) -> Contract:
    rule = Coded(source="status", forward={"UNPAID": "100", "CANCELLED": "0"}, backward={"103": "UNPAID"})
    orders = Entity(
        name="orders",
        source=Table("public", "orders"),
        target=Table("public", "pesanan"),
        key=(("order_id", "id"),),
        scope=Scope.TENANT,
        tenant=Own("shop_id"),
        history=History.MOVES,
        fields=(Field(target="status", rule=rule, data=None, place=HERE),),
        reverse={},
        not_moved={},
        ours=None,
        link=None,
        offset=None,
        keep={},
        purpose="test",
        place=HERE,
    )
    gateway = Gateway(
        listen="127.0.0.1:1",
        front="127.0.0.1:1",
        source="127.0.0.1:1",
        target=target,
        tenant_path="/api/shops/{shop_id}",
        shared_paths=(),
        request_max_ms=2000,
        operator_secret="s3cret",
    )
    return Contract(
        name="test",
        source=Endpoint(dsn=None),
        target=Endpoint(dsn=None),
        control=Endpoint(dsn=None),
        tenant_entity="shops",
        entities=(orders,),
        tables_not_moved={},
        operations=OPERATIONS,
        gateway=gateway,
        cohorts=(),
    )


@dataclass
class Adapted:
    """An adapter before a target whose answer is set by the test."""

    url: str
    target: BackEnd
    client: aiohttp.ClientSession
    status: int = 200
    answer: object = None
    headers: Mapping[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str, Direction]] = field(default_factory=list)

    async def link(self, entity: str, identifier: str, direction: Direction) -> str | None:
        self.asked.append((entity, identifier, direction))
        ways = SHOPS if direction is Direction.FORWARD else {there: here for here, there in SHOPS.items()}
        return ways.get(identifier) if entity == "shops" else None

    async def answering(self, _request: web.Request) -> web.Response:
        body = self.answer if isinstance(self.answer, bytes) else json.dumps(self.answer).encode()
        headers = {"Content-Type": "application/json", "X-Target": "1", **self.headers}
        return web.Response(status=self.status, body=body, headers=headers)

    async def post(self, body: object, path: str = "/api/shops/17/orders", **headers: str) -> tuple[int, object]:
        sent = {n.replace("_", "-"): v for n, v in headers.items()}
        content = io.BytesIO(body if isinstance(body, bytes) else json.dumps(body).encode())
        async with self.client.post(self.url + path, data=content, headers=sent) as answer:
            return answer.status, await answer.json()

    async def get(self, path: str) -> tuple[int, str]:
        async with self.client.get(self.url + path, allow_redirects=False) as answer:
            return answer.status, await answer.text()


@asynccontextmanager
async def adapted(target_address: str | None = None) -> AsyncIterator[Adapted]:
    async with back_end("target") as target, aiohttp.ClientSession() as client:
        address = target_address or target.address
        world = Adapted("", target, client)
        target.answering = world.answering
        async with listening(adapter_app(_contract(address), world.link), "127.0.0.1", 0, grace_s=1.0) as served:
            world.url = f"http://{served}"
            yield world


FULL_REQUEST = {
    "buyer_id": "7000000001",
    "status": "CANCELLED",
    "address": {"phone": PERSONAL, "city": "Bandung", "nik": "3273"},
    "items": [{"product_id": "1", "n": 2, "secret": "x"}, {"product_id": "2", "n": None}],
    "total": "145000.00",
    "risk_score": 0.7,
}
FULL_ANSWER = {
    "data": {
        "id": 1000000001,
        "merchant": 777,
        "status": 103,
        "amount": 145000,
        "note": None,
        "rate": 0.1,
        "rows": [{"name": "Kopi", "tags": ["a", "b"], "cost": 1}, {"name": "Teh"}],
        "buyer_nik": "3273",
        "invoice": "http://{target}/v2/fs/777/order/1000000001/doc?sig=1",
    },
    "email": "a@b.c",
}


async def test_what_is_named_crosses_converted_and_nothing_else() -> None:
    async with adapted() as a:
        text = json.dumps(FULL_ANSWER).replace("0.1", "0.10").replace("{target}", a.target.address)
        a.answer, a.status = text.encode(), 201
        got = await a.post(
            FULL_REQUEST, "/api/shops/17/orders?page=2&secret=x", X_Buyer_Id="7", X_Risk="9", Cookie="c=1"
        )
        [execution] = a.target.executions
    assert got == (
        201,
        {
            "order_id": "1000000001",
            "shop_id": "17",
            "status": "UNPAID",
            "total_amount": "145000.00",
            "items": [{"title": "Kopi", "tags": ["a", "b"]}, {"title": "Teh"}],
            "note": None,
            "rate": 0.1,
            "invoice_url": "/api/shops/17/orders/1000000001/invoice",
            "processed_by": "Marketplace",
        },
    )
    assert (execution.method, execution.path) == ("POST", "/v2/fs/777/order?page=2")
    assert json.loads(execution.body) == {
        "user_id": 7000000001,
        "state": "0",
        "to": {"phone": PERSONAL, "city": "Bandung"},
        "items": [{"id": 1, "n": 2}, {"id": 2, "n": None}],
        "total": 145000,
        "channel": "social",
    }
    assert {n.lower(): v for n, v in execution.headers} == {
        "host": a.target.address,
        "x-user-id": "7",
        "content-type": "application/json",
        "authorization": "Bearer s3cret",
        "content-length": str(len(execution.body)),
    }


async def test_an_answer_carries_no_header_of_the_target() -> None:
    async with adapted() as a:
        a.answer, a.headers = {"ok": True}, {"Set-Cookie": "t=1", "Server": "mp"}
        async with a.client.get(a.url + "/api/shops/17/orders/5") as answer:
            assert {n.lower() for n in answer.headers} == {"content-type", "content-length", "date"}
            assert await answer.json() == {"ok": True}


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        ({"note": {"nik": PERSONAL}}, "an object where a value stands"),
        ({"note": [{"nik": PERSONAL}]}, "objects in a list of values"),
        ({"status": 999}, "a code without a twin"),
        ({"amount": 145000.501}, "money that is none"),
        ({"amount": True}, "money that is none"),
        ({"merchant": 9}, "a shop without a twin"),
        ({"rows": {"name": PERSONAL}}, "an object for a list"),
        ({"invoice": "http://{target}/v2/internal/dump"}, "a link that no operation offers"),
        ({"invoice": "http://{target}/v2/fs/9/order/1/doc"}, "a link to a shop without a twin"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_an_answer_that_is_not_as_declared_does_not_pass(
    data: dict[str, object], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    async with adapted() as a:
        a.answer = json.dumps({"data": data}).replace("{target}", a.target.address).encode()
        assert await a.post({}) == (502, {"error": "upstream"}), reason
    assert PERSONAL not in caplog.text
    assert "adapter.answer_refused operation=place_order" in caplog.text


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"not json", "body"),
        (b"[" * 100_000, "body"),
        (b'{"buyer_id": "\xff"}', "body"),
        ({"buyer_id": "7x"}, "body.buyer_id"),
        ({"buyer_id": {"a": 1}}, "body.buyer_id"),
        ({"status": "PAID"}, "body.status"),
        ({"total": "145000.50"}, "body.total"),
        ({"items": [{"n": {"a": 1}}]}, "item.n"),
    ],
)
async def test_a_request_that_is_not_as_declared_is_400_and_goes_nowhere(body: object, message: str) -> None:
    async with adapted() as a:
        got = await a.post(body)
        assert a.target.executions == []
    assert got == (400, {"error": "bad_request", "message": f"{message} is missing or not as it should be"})


async def test_absent_and_null_stay_what_they_are() -> None:
    async with adapted() as a:
        a.answer = {"data": None}
        assert await a.post({"address": None, "items": None, "total": None}) == (
            200,
            dict.fromkeys(
                ("order_id", "shop_id", "status", "total_amount", "items", "note", "rate", "invoice_url"), None
            )
            | {"processed_by": "Marketplace"},
        )
        assert json.loads(a.target.executions[0].body) == {
            "to": {"phone": None, "city": None},
            "items": None,
            "total": None,
            "channel": "social",
        }


async def test_calls_that_no_operation_names_are_404() -> None:
    async with adapted() as a:
        for path in ("/api/shops/17", "/api/shops/17/orders", "/api/shops/17/orders/5/", "/v2/fs/777/order/5", "/"):
            assert await a.get(path) == (404, '{"error": "not_offered"}')
        assert await a.get("/api/shops/99/orders/5") == (404, '{"error": "not_found"}')
        assert a.target.executions == []


@pytest.mark.parametrize("order", ["..", "%2E%2E", "a%2Fb", "a%5Cb", "%00", "%0d%0a", "", "%25", "a b"])
async def test_ids_that_could_change_the_path_are_refused(order: str) -> None:
    async with adapted() as a:
        url = URL(f"{a.url}/api/shops/17/orders/{order.replace(' ', '%20')}", encoded=True)
        async with a.client.get(url) as answer:
            assert answer.status == 400
        assert a.target.executions == []


async def test_header_values_cannot_carry_lines() -> None:
    async with adapted() as a:
        assert (await a.post({}, X_Buyer_Id="é"))[0] == 400
        assert a.target.executions == []


@pytest.mark.parametrize(
    ("status", "answer", "expected"),
    [
        (
            409,
            {"error": {"code": "out_of_stock", "message": "Stok habis", "sql": "x"}},
            {"error": "out_of_stock", "message": "Stok habis"},
        ),
        (422, {"error": {"code": 17, "message": "x" * 300}}, {"error": "17", "message": "x" * 200}),
        (400, {"error": {"code": f"phone {PERSONAL}", "message": {"a": 1}}}, {"error": "upstream"}),
        (500, b"<html>trace of a person</html>", {"error": "upstream"}),
        (503, [1], {"error": "upstream"}),
    ],
)
async def test_errors_pass_as_status_code_and_short_text(status: int, answer: object, expected: object) -> None:
    async with adapted() as a:
        a.status, a.answer = status, answer
        assert await a.post({}) == (status, expected)


async def test_redirects_of_the_target_are_neither_followed_nor_passed() -> None:
    async with adapted() as a:
        a.status, a.answer, a.headers = 302, {}, {"Location": f"http://{a.target.address}/elsewhere"}
        assert await a.get("/api/shops/17/orders/5") == (502, '{"error": "upstream"}')
        assert a.target.paths == ["/v2/fs/777/order/5"]


async def test_documents_pass_whole_and_only_as_html() -> None:
    async with adapted() as a:
        a.answer, a.headers = "<p>Diproses oleh …</p>".encode(), {"Content-Type": "text/html; charset=utf-8"}
        assert await a.get("/api/shops/17/orders/5/invoice") == (200, "<p>Diproses oleh …</p>")
        a.headers = {}
        assert await a.get("/api/shops/17/orders/5/invoice") == (502, '{"error": "upstream"}')


async def test_an_empty_answer_stays_empty() -> None:
    async with adapted() as a:
        a.status, a.answer = 204, b""
        async with a.client.post(a.url + "/api/shops/17/thanks") as answer:
            assert (answer.status, await answer.read()) == (204, b"")
        assert (a.target.executions[0].method, a.target.executions[0].path) == ("PUT", "/v2/fs/777/thanks")


async def test_large_requests_and_answers_that_are_no_json_are_refused() -> None:
    async with adapted() as a:
        assert await a.post(b" " * (1024 * 1024 + 1)) == (413, {"error": "too_large"})
        assert a.target.executions == []
        a.answer = b"nonsense"
        assert await a.post({}) == (502, {"error": "upstream"})


async def _never(_reader: object, _writer: object) -> None:
    """Hang up on everybody."""


async def test_a_target_that_is_away_is_502_and_one_that_breaks_is_unclean_too() -> None:
    for address, unclean in ((f"127.0.0.1:{free_port()}", False), (None, True)):
        async with (
            raw_back_end(_never) as breaking,
            adapted(address or breaking) as a,
            a.client.post(a.url + "/api/shops/17/thanks") as answer,
        ):
            assert (answer.status, "x-alih-unclean" in answer.headers) == (502, unclean)


async def test_links_are_remembered_and_missing_ones_asked_again() -> None:
    async with adapted() as a:
        a.answer = {"ok": 1}
        for shop in ("17", "17", "99", "99"):
            await a.get(f"/api/shops/{shop}/orders/5")
    assert [i for _, i, _ in a.asked] == ["17", "99", "99"]
