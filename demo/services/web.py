"""What the demo's services share: answers and refusals, a database pool, and how they are started."""

import argparse
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, LiteralString, TypeVar

import msgspec
import uvicorn
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

T = TypeVar("T")
Connection = AsyncConnection[DictRow]
Pool = AsyncConnectionPool[Connection]

POOL_SIZE = 12
KEEP_ALIVE_S = 7200  # longer than a gateway keeps an idle connection, so that only the gateway ever closes one


class ApiError(Exception):
    """An answer other than success: `status` for the protocol, `code` for programs, `message` for people."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


def answer(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


async def parsed(request: Request, shape: type[T]) -> T:
    """The request's JSON body as `shape`; refuses what does not fit."""
    try:
        return msgspec.json.decode(await request.body(), type=shape)
    except msgspec.DecodeError as error:
        raise ApiError(400, "bad_request", str(error)) from None


def number(request: Request, header: str) -> int:
    """The id that stands in a header; refuses a request without one."""
    value = request.headers.get(header, "")
    if not value.isascii() or not value.isdigit():
        raise ApiError(401, "unauthorized", "nobody is named as the one who asks")
    return int(value)


def idempotency_key(request: Request) -> str:
    key = request.headers.get("idempotency-key", "")
    if not 1 <= len(key) <= 100:
        raise ApiError(400, "bad_request", "Idempotency-Key is missing")
    return key


def page_size(request: Request, parameter: str) -> int:
    value = request.query_params.get(parameter, "50")
    return min(int(value), 100) if value.isdecimal() else 50


def now() -> int:
    return int(time.time())


@asynccontextmanager
async def database(dsn: str) -> AsyncIterator[Pool]:
    """A pool whose connections commit by themselves unless `transaction` says otherwise."""
    settings = {"row_factory": dict_row, "autocommit": True}
    async with AsyncConnectionPool(
        dsn, connection_class=Connection, kwargs=settings, min_size=2, max_size=POOL_SIZE, open=False
    ) as pool:
        yield pool


@asynccontextmanager
async def transaction(request: Request) -> AsyncIterator[Connection]:
    """One READ COMMITTED transaction, rolled back by any error."""
    async with request.state.pool.connection() as conn, conn.transaction():
        yield conn


async def rows(request: Request, query: LiteralString, **values: object) -> list[dict[str, Any]]:
    async with request.state.pool.connection() as conn:
        return await fetched(conn, query, **values)


async def row(request: Request, query: LiteralString, **values: object) -> dict[str, Any]:
    """The first row; 404 when there is none."""
    found = await rows(request, query, **values)
    return only(found)


async def fetched(conn: Connection, query: LiteralString, **values: object) -> list[dict[str, Any]]:
    cursor = await conn.execute(query, values)
    return await cursor.fetchall()


def only(found: list[dict[str, Any]]) -> dict[str, Any]:
    if not found:
        raise ApiError(404, "not_found", "there is no such thing here")
    return found[0]


def run(app: Starlette) -> None:
    """Serve on `--listen HOST:PORT` until a signal comes; requests in flight get two seconds to finish."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", required=True, metavar="HOST:PORT")
    host, _, port = parser.parse_args().listen.rpartition(":")
    uvicorn.run(
        app,
        host=host,
        port=int(port),
        log_level="warning",
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=2,
    )
