"""Custody of payment notices: verified, kept, and only then answered.

The provider repeats a notice until it has read a 200, and never again after it. So a 200 is a promise: from then on the
notice lies in the control database, whatever is killed. A store that is away is a 503, and the provider comes again.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web

from alih.errors import AlihError
from alih.evidence.canonical import Json, canonical
from alih.gateway.routes import TENANT_HEADER
from alih.gateway.wire import BODY_BYTES, application, problem
from alih.model.commerce import Payee
from alih.model.side import Side
from alih.payments.midtrans import Notice, signed_by
from alih.postgres.custody import Arrived, Custody

_MOST_DEPTH = 20


class Unfit(Exception):
    """A notice that is not kept: `status` and `reason` are what its sender reads."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def custody_app(custody: Custody, payees: Mapping[Side, Payee]) -> web.Application:
    """Answers at Envoy's cluster `custody`: 200 when the notice is kept, 4xx when it is refused, 503 while the store is
    away. Refusals are put on record and change nothing else. At most 1 MB is read."""

    async def receive(request: web.Request) -> web.Response:
        tenant, body = request.headers.get(TENANT_HEADER, ""), None
        try:
            try:
                body = await _body(request)
                await custody.keep(arrived(tenant, request.path, body, payees))
            except Unfit as unfit:
                digest = None if body is None else hashlib.sha256(body).hexdigest()
                size = request.content_length if body is None else len(body)
                await custody.refuse(tenant, unfit.reason, digest, size)
                return problem(unfit.status, unfit.reason)
        except AlihError:
            return problem(503, "unavailable")
        return web.json_response({"ok": True})

    return application(receive, BODY_BYTES)


async def _body(request: web.Request) -> bytes:
    if request.method != "POST":
        raise Unfit(405, "not_a_post")
    try:
        return await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise Unfit(413, "too_large") from None
    except (ConnectionError, web.RequestPayloadError):
        raise Unfit(400, "bad_body") from None


def arrived(tenant: str, path: str, body: bytes, payees: Mapping[Side, Payee], origin: str = "notice") -> Arrived:
    """The notice in `body`. Raises Unfit if it is none, or if no payee's key has signed it."""
    try:
        notice, whole = msgspec.json.decode(body, type=Notice), msgspec.json.decode(body)
        form = canonical(_without_floats(whole, _MOST_DEPTH))
        notice.status()
    except (RecursionError, TypeError, ValueError):  # msgspec's errors are of the last kind
        raise Unfit(400, "no_notice") from None
    payee = signed_by(notice, payees)
    if payee is None:
        raise Unfit(403, "bad_signature")
    return Arrived(
        tenant=tenant,
        path=path,
        reference=notice.order_id,
        state=notice.transaction_status,
        payee=payee.name,
        sha256=hashlib.sha256(form).digest(),
        body=body,
        origin=origin,
    )


def _without_floats(value: Any, depth: int) -> Json:
    """The same document with each float as its text: RFC 8785 prints them as ECMAScript does, and we need no number
    but only whether two bodies are one."""
    if depth == 0:
        raise ValueError("nested too deeply")
    match value:
        case float():
            return {"float": repr(value)}
        case dict():
            return {name: _without_floats(each, depth - 1) for name, each in value.items()}
        case list():
            return [_without_floats(each, depth - 1) for each in value]
        case _:
            return value  # type: ignore[no-any-return]  # JSON as it was decoded
