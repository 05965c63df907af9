"""HTTP as the gate and the adapter speak it: nothing is added, tried twice, followed or logged."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TypeAlias

import aiohttp
from aiohttp import web
from multidict import CIMultiDict

Handler: TypeAlias = Callable[[web.Request], Awaitable[web.StreamResponse]]

BODY_BYTES = 1024 * 1024
_LINE_BYTES = 64 * 1024  # Envoy lets pass as much; aiohttp's own limit of 8 KB would refuse long cookies
_HEADERS = 1_000
# Shorter than any server's keep-alive, so that no request meets the closing of an idle connection.
_IDLE_S = 2.0

HOP_BY_HOP = frozenset(
    (
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te"),
        *("trailer", "transfer-encoding", "upgrade", "expect"),
    )
)


class BrokenAfterSending(aiohttp.ClientError):
    """The connection ended after the request had gone out: the back end may still be at work on it."""


def end_to_end(headers: Mapping[str, str], *without: str) -> CIMultiDict[str]:
    """The headers that pass a proxy: neither hop by hop (RFC 9110, 7.6.1), nor ours (`x-alih-…`), nor `without`."""
    named = {name.strip().lower() for name in headers.get("Connection", "").split(",")}
    dropped = HOP_BY_HOP | named | set(without)
    kept = ((n, v) for n, v in headers.items() if n.lower() not in dropped and not n.lower().startswith("x-alih-"))
    return CIMultiDict(kept)


def problem(status: int, error: str, message: str | None = None) -> web.Response:
    """An answer of our own, in the form that shops use for errors."""
    body = {"error": error} if message is None else {"error": error, "message": message}
    answer = web.json_response(body, status=status)
    if status == 503:
        answer.headers["Retry-After"] = "1"
    return answer


def application(answering: Handler, body_bytes: int) -> web.Application:
    """All requests to one handler. Not by a route: aiohttp's router takes paths like `//a` for none."""

    @web.middleware
    async def everything(request: web.Request, handler: Handler) -> web.StreamResponse:  # noqa: ARG001 - aiohttp's
        return await answering(request)

    return web.Application(client_max_size=body_bytes, middlewares=[everything])


@asynccontextmanager
async def upstream_session(timeout_s: float) -> AsyncIterator[aiohttp.ClientSession]:
    """A client that sends what it is given, once.

    Left alone aiohttp repeats a PUT or DELETE whose kept connection broke: the first try might still be running.
    """
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=_IDLE_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=timeout_s, sock_connect=5.0),
        skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        middlewares=(_once,),
        auto_decompress=False,
        max_line_size=_LINE_BYTES,
        max_field_size=_LINE_BYTES,
        max_headers=_HEADERS,
    ) as session:
        yield session


async def _once(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    try:
        return await handler(request)
    except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError):
        raise
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError, OSError) as error:
        raise BrokenAfterSending from error


def never_sent(error: Exception) -> bool:
    """Whether a failed request certainly did not reach the back end."""
    # ValueError: a header or URL that HTTP cannot carry
    return isinstance(error, aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError | ValueError)


@asynccontextmanager
async def listening(app: web.Application, host: str, port: int, *, grace_s: float) -> AsyncIterator[str]:
    """Serve `app`, port 0 for a free one; gives `host:port`. At the end, running requests have `grace_s` to finish."""
    runner = web.AppRunner(
        app,
        access_log=None,
        logger=_quiet_logger(),
        handler_cancellation=False,  # a hang-up must not stop the count of what a back end works on
        auto_decompress=False,
        shutdown_timeout=grace_s,
        max_line_size=_LINE_BYTES,
        max_field_size=_LINE_BYTES,
        max_headers=_HEADERS,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port, backlog=1024).start()
        bound = runner.addresses[0]
        yield f"{bound[0]}:{bound[1]}"
    finally:
        await runner.cleanup()


class _NoContent(logging.Filter):
    """aiohttp's messages quote requests; what remains of them is the kind of error."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[0] if record.exc_info else None
        record.msg, record.args = "http.request_failed kind=%s", (error.__name__ if error else "unknown",)
        record.exc_info = record.exc_text = None
        return True


def _quiet_logger() -> logging.Logger:
    logger = logging.getLogger("alih.gateway.http")
    if not any(isinstance(known, _NoContent) for known in logger.filters):
        logger.addFilter(_NoContent())
    return logger
