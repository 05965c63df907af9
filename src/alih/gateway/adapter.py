"""The adapter: the front end's unchanged calls, answered by the target's own API as the contract's operations say.

It is a list of what may cross, not a proxy: of a request and of an answer only what an operation names passes.
Logs name operations and the contract's paths, never a value.
"""

import logging
import re
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import TypeAlias, cast
from urllib.parse import urlencode

import aiohttp
import msgspec
from aiohttp import web
from yarl import URL

from alih.errors import Refused
from alih.gateway.flight import only_what_came
from alih.gateway.offered import FrontPaths, Offered, Template, front_parameters
from alih.gateway.routes import UNCLEAN_HEADER
from alih.gateway.shapes import Conversions, Datum, Unfit, Unlinked, as_it_is, code_lists, found, paths_in, shaped
from alih.gateway.wire import BODY_BYTES, application, never_sent, problem, upstream_session
from alih.model.contract import Contract, Gateway, Operation, Shape
from alih.model.projection import Direction

Links: TypeAlias = Callable[[str, str, Direction], Awaitable[str | None]]
"""(entity, id, direction) to the id on the other side: FORWARD takes the source's id, REVERSE the target's."""

_LINKS_KEPT = 100_000
_LINKS_FRESH_S = 60.0
_UPSTREAM_S = 60.0
_MESSAGE_MAX = 200
_HTML = "text/html"

_log = logging.getLogger("alih.gateway.adapter")
_decoder = msgspec.json.Decoder(float_hook=Decimal)
_encoder = msgspec.json.Encoder(decimal_format="number")


def adapter_app(contract: Contract, links: Links) -> web.Application:
    """The application that answers at Envoy's cluster `target`. Refused for a contract without a gateway.

    Serve it with `wire.listening`: a client's hang-up must not end a call that the target works on.
    """
    if contract.gateway is None:
        raise Refused("the contract has no gateway", remedy="add `gateway:`; the adapter asks gateway.target")
    adapter = _Adapter(contract, contract.gateway, _CachedLinks(links))
    app = application(adapter.handle, BODY_BYTES)
    app.on_response_prepare.append(only_what_came)
    app.cleanup_ctx.append(adapter.session_open)
    return app


class _CachedLinks:
    """Known links are remembered for a minute; ids without one are asked for again each time."""

    def __init__(self, links: Links) -> None:
        self._links = links
        self._known: OrderedDict[tuple[str, str, Direction], tuple[float, str]] = OrderedDict()

    async def __call__(self, entity: str, identifier: str, direction: Direction) -> str | None:
        key = (entity, identifier, direction)
        asked_at, twin = self._known.get(key, (0.0, ""))
        if twin and time.monotonic() - asked_at < _LINKS_FRESH_S:
            return twin
        answer = await self._links(entity, identifier, direction)
        if answer is not None:
            self._known[key] = (time.monotonic(), answer)
            if len(self._known) > _LINKS_KEPT:
                self._known.popitem(last=False)
        return answer


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reply:
    """What the target has answered."""

    status: int
    content_type: str
    body: bytes


class _Failed(Exception):
    """The target gave no answer that may pass; `unclean` when it may still be at work."""

    def __init__(self, *, unclean: bool = False) -> None:
        super().__init__()
        self.unclean = unclean


class _Adapter:
    def __init__(self, contract: Contract, gateway: Gateway, links: _CachedLinks) -> None:
        self._target = gateway.target
        self._secret = gateway.operator_secret
        self._upstream_s = max(_UPSTREAM_S, gateway.request_max_ms / 1000)
        self._links = links
        self._offered = Offered(contract.operations)
        self._front_paths = FrontPaths(contract.operations, gateway.target)
        self._there = Conversions(
            codes=code_lists(contract, Direction.FORWARD),
            link=partial(self._link, Direction.FORWARD),
            plain=as_it_is,
        )
        self._back_codes = code_lists(contract, Direction.REVERSE)

    async def session_open(self, _app: web.Application) -> AsyncIterator[None]:
        async with upstream_session(self._upstream_s) as self._session:
            yield

    async def handle(self, request: web.Request) -> web.StreamResponse:
        offer = self._offered.find(request.method, request.raw_path.partition("?")[0])
        if offer is None:
            return problem(404, "not_offered")
        operation, parameters = offer
        try:
            call = await self._call(operation, await _scope(request, operation, parameters))
        except web.HTTPRequestEntityTooLarge:
            return problem(413, "too_large")
        except Unlinked:
            return problem(404, "not_found")
        except Unfit as unfit:
            return problem(400, "bad_request", f"{unfit.path} is missing or not as it should be")
        return await self._answer(operation, parameters, call)

    async def _call(self, operation: Operation, scope: Mapping[str, Datum]) -> "_Call":
        texts = partial(_texts, scope=scope, conversions=self._there)
        path = Template(operation.target[1]).filled(await texts(operation.path))
        query = await texts(operation.query)
        headers = await texts(operation.headers)
        if not all(re.fullmatch(r"[\x20-\x7e]*", value) for value in headers.values()):
            raise Unfit("header")
        body = b""
        if operation.request:
            body = _encoder.encode(await shaped(operation.request, scope, self._there))
            headers["Content-Type"] = "application/json"
        if self._secret is not None:
            headers["Authorization"] = f"Bearer {self._secret}"
        url = f"http://{self._target}{path}{'?' if query else ''}{urlencode(query)}"
        return _Call(operation.target[0].upper(), URL(url, encoded=True), headers, body)

    async def _answer(self, operation: Operation, parameters: Mapping[str, str], call: "_Call") -> web.Response:
        try:
            return await self._passed(operation, parameters, await self._asked(call))
        except Unfit as unfit:
            _log.warning("adapter.answer_refused operation=%s path=%s", operation.name, unfit.path)
        except _Failed as failed:
            _log.warning("adapter.target_failed operation=%s unclean=%s", operation.name, failed.unclean)
            if failed.unclean:
                answer = problem(502, "upstream")
                answer.headers[UNCLEAN_HEADER] = "1"
                return answer
        return problem(502, "upstream")

    async def _asked(self, call: "_Call") -> _Reply:
        try:
            async with self._session.request(
                call.method, call.url, headers=call.headers, data=call.body or None, allow_redirects=False
            ) as answer:
                return _Reply(status=answer.status, content_type=answer.content_type, body=await answer.read())
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            raise _Failed(unclean=not never_sent(error)) from error

    async def _passed(self, operation: Operation, parameters: Mapping[str, str], reply: _Reply) -> web.Response:
        """The answer to the front end. Raises Unfit or _Failed when it may not pass."""
        if 300 <= reply.status < 400:
            raise _Failed  # where a redirect leads is the target's business, and never the shopper's
        if reply.status >= 400:
            return _json(reply.status, _error(reply.body))
        if operation.content == "html":
            return _document(reply)
        if not reply.body and not operation.answer:
            return web.Response(status=reply.status)
        body = _decoded(reply.body, "body")
        return _json(reply.status, await shaped(operation.answer, {"body": body}, self._back(parameters)))

    def _back(self, parameters: Mapping[str, str]) -> Conversions:
        return Conversions(
            codes=self._back_codes,
            link=partial(self._link, Direction.REVERSE),
            plain=partial(self._on_front, parameters),
        )

    async def _link(self, direction: Direction, entity: str, identifier: str) -> str | None:
        return await self._links(entity, identifier, direction)

    async def _on_front(self, parameters: Mapping[str, str], text: str) -> str:
        """A link of the target as the front end's own path; what the link does not tell stands in the call's path."""
        link = self._front_paths.of(text)
        if link is None:
            return text
        operation, values = link
        named = dict(parameters)
        for name, (target_name, entity) in front_parameters(operation).items():
            value: str | None = values[target_name]
            if entity is not None and value is not None:
                value = await self._links(entity, value, Direction.REVERSE)
            if value is None:
                raise Unlinked(f"path.{name}")
            named[name] = value
        return Template(operation.front[1]).filled(named)


@dataclass(frozen=True, slots=True)
class _Call:
    """A request to the target."""

    method: str
    url: URL
    headers: dict[str, str]
    body: bytes


async def _scope(request: web.Request, operation: Operation, parameters: dict[str, str]) -> dict[str, Datum]:
    """The parts of a front call that an operation may read."""
    scope: dict[str, Datum] = {
        "path": parameters,
        "query": dict(request.query),
        "header": {name.lower(): value for name, value in request.headers.items()},
    }
    content = await request.read()
    shapes = (operation.path, operation.query, operation.headers, operation.request)
    if content and any(path.split(".")[0] == "body" for shape in shapes for path in paths_in(shape)):
        scope["body"] = _decoded(content, "body")
    return scope


async def _texts(shape: Shape, *, scope: Mapping[str, Datum], conversions: Conversions) -> dict[str, str]:
    """The shape's values as texts, for a path, a query or headers; null is left out."""
    values = await shaped(shape, scope, conversions)
    return {name: _as_text(name, value) for name, value in values.items() if value is not None}


def _as_text(name: str, value: Datum) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | Decimal):
        raise Unfit(name)
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def _decoded(content: bytes, path: str) -> Datum:
    try:
        return cast(Datum, _decoder.decode(content))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Unfit(path) from None


def _json(status: int, body: Mapping[str, Datum]) -> web.Response:
    return web.Response(status=status, body=_encoder.encode(body), content_type="application/json")


def _document(reply: _Reply) -> web.Response:
    if reply.content_type != _HTML:
        raise Unfit("body")
    return web.Response(status=reply.status, body=reply.body, content_type=_HTML, charset="utf-8")


def _error(content: bytes) -> dict[str, Datum]:
    """The target's error in the front end's form: a code, and a short text if there is one."""
    try:
        scope = {"body": _decoded(content, "body")}
    except Unfit:
        return {"error": "upstream"}
    code, message = found("body.error.code", scope), found("body.error.message", scope)
    known = isinstance(code, str | int) and re.fullmatch(r"[\w.-]{1,64}", str(code), re.ASCII)
    made: dict[str, Datum] = {"error": str(code) if known else "upstream"}
    if isinstance(message, str):
        made["message"] = message[:_MESSAGE_MAX]
    return made
