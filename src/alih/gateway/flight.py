"""One call on its way to a back end and its answer on the way home, to one client or to several that ask the same."""

import asyncio
from collections.abc import Hashable
from dataclasses import dataclass, field

from aiohttp import web
from multidict import CIMultiDict

from alih.gateway.wire import end_to_end, problem

IDEMPOTENCY_KEY = "Idempotency-Key"
# A client's second try differs from its first in these at most.
_VOLATILE = frozenset(("content-length", "date", "traceparent", "tracestate", "x-request-id", "retry-after"))
# aiohttp adds these to an answer that has none of them.
_ADDED = ("Server", "Date", "Content-Type")
_PASSED = web.RequestKey("alih_passed", frozenset[str])


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request as it goes to the back end."""

    method: str
    path: str  # with the query, escapes as the client wrote them
    headers: CIMultiDict[str]
    body: bytes

    @classmethod
    def of(cls, request: web.Request, body: bytes) -> "Call":
        headers = end_to_end(request.headers, "content-length")
        return cls(method=request.method, path=request.raw_path, headers=headers, body=body)

    def identity(self, tenant: str) -> Hashable | None:
        """Equal for two tries of one attempt, None without an idempotency key.

        All headers count, for who the client is stands in some of them: nobody is given another client's answer.
        """
        if IDEMPOTENCY_KEY not in self.headers:
            return None
        headers = frozenset((n.lower(), v) for n, v in self.headers.items() if n.lower() not in _VOLATILE)
        return (tenant, self.method, self.path, headers, self.body)


@dataclass(slots=True)
class Answer:
    """A back end's answer as it was passed on; `body` is kept only where others wait for it."""

    status: int
    reason: str | None
    headers: CIMultiDict[str]
    body: bytearray = field(default_factory=bytearray)
    complete: bool = False


class Flight:
    """A call under way. The first client leads it; others may join as long as it runs, and share its answer."""

    def __init__(self, leader: web.Request, *, shared: bool) -> None:
        self._clients = [leader]
        self._shared = shared
        self._response: web.StreamResponse | None = None
        self._answer: Answer | None = None
        self._failure = (502, "upstream")
        self._landed = asyncio.Event()

    @property
    def wanted(self) -> bool:
        """Whether any client is still there for the answer."""
        return any(client.transport is not None and not client.transport.is_closing() for client in self._clients)

    async def start(self, status: int, reason: str | None, headers: CIMultiDict[str]) -> None:
        self._answer = Answer(status, reason, headers)
        self._response = await _open(self._clients[0], self._answer)

    async def carry(self, chunk: bytes) -> None:
        if self._answer and self._shared:
            self._answer.body += chunk
        if self._response and not await _written(self._response, chunk):
            self._response = None  # the leader has hung up; the back end's answer is read to its end all the same

    def land(self) -> None:
        """The answer is complete."""
        if self._answer:
            self._answer.complete = True
        self._landed.set()

    def end(self, status: int, error: str) -> web.StreamResponse:
        """The leader's response: what has been passed on, or this failure when no answer had begun."""
        self._failure = status, error
        self._landed.set()
        if self._answer is None:
            return problem(status, error)
        if not self._answer.complete:
            self._abort()
        return self._response or web.Response(status=self._answer.status)

    async def join(self, request: web.Request) -> web.StreamResponse:
        """Wait with the leader and pass its answer, or its failure, to `request` too."""
        self._clients.append(request)
        await self._landed.wait()
        if self._answer is None or not self._answer.complete:
            return problem(*self._failure)
        response = await _open(request, self._answer)
        if response:
            await _written(response, bytes(self._answer.body))
        return response or web.Response(status=self._answer.status)

    def _abort(self) -> None:
        # Half an answer must not look like a whole one.
        transport = self._clients[0].transport
        if transport is not None:
            transport.abort()


async def _open(request: web.Request, answer: Answer) -> web.StreamResponse | None:
    """Send the head of the answer; None when the client has hung up."""
    request[_PASSED] = frozenset(name.lower() for name in answer.headers)
    response = web.StreamResponse(status=answer.status, reason=answer.reason, headers=answer.headers)
    try:
        await response.prepare(request)
    except ConnectionError:
        return None
    return response


async def _written(response: web.StreamResponse, chunk: bytes) -> bool:
    try:
        await response.write(chunk)
    except ConnectionError:
        return False
    return True


async def only_what_came(request: web.Request, response: web.StreamResponse) -> None:
    """Before the head of an answer goes out: what aiohttp has added to it comes off (an `on_response_prepare`)."""
    passed = request.get(_PASSED)
    for name in _ADDED:
        if passed is not None and name.lower() not in passed:
            response.headers.pop(name, None)
    if passed is None:
        response.headers.pop("Server", None)
