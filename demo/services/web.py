"""What the demo's services share: answers and refusals, a database with named queries, and how they are started."""

import argparse
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import uvicorn
from psycopg import AsyncConnection
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

T = TypeVar("T")
Row = dict[str, Any]
Connection = AsyncConnection[DictRow]
Lifespan = Callable[[Starlette], AbstractAsyncContextManager[Mapping[str, Any]]]

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


def page_size(request: Request, parameter: str) -> int:
    value = request.query_params.get(parameter, "50")
    return min(int(value), 100) if value.isdecimal() else 50


@dataclass(frozen=True, slots=True)
class Work:
    """Queries on one connection. Each may name `now` (Unix seconds), and the `constants` of its service."""

    conn: Connection
    queries: Mapping[str, bytes]
    constants: Mapping[str, object]

    async def rows(self, query: str, **values: object) -> list[Row]:
        cursor = await self.conn.execute(self.queries[query], {**self.constants, "now": int(time.time()), **values})
        return await cursor.fetchall() if cursor.description else []

    async def row(self, query: str, **values: object) -> Row:
        """The first row; 404 when there is none."""
        for found in await self.rows(query, **values):
            return found
        raise ApiError(404, "not_found", "there is no such thing here")

    async def each(self, query: str, values: Sequence[Row]) -> int:
        """Run the query for each of the values; how many rows it changed."""
        cursor = self.conn.cursor()
        await cursor.executemany(self.queries[query], values)
        return cursor.rowcount


@dataclass(frozen=True, slots=True)
class Database:
    """A service's database and the queries of its queries.sql."""

    pool: AsyncConnectionPool[Connection]
    queries: Mapping[str, bytes]
    constants: Mapping[str, object]

    @asynccontextmanager
    async def work(self) -> AsyncIterator[Work]:
        """A connection on which each query commits by itself."""
        async with self.pool.connection() as conn:
            yield Work(conn, self.queries, self.constants)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Work]:
        """One READ COMMITTED transaction, rolled back by any error."""
        async with self.work() as work, work.conn.transaction():
            yield work

    async def rows(self, query: str, **values: object) -> list[Row]:
        async with self.work() as work:
            return await work.rows(query, **values)

    async def row(self, query: str, **values: object) -> Row:
        async with self.work() as work:
            return await work.row(query, **values)


def db(request: Request) -> Database:
    opened: Database = request.state.db
    return opened


@asynccontextmanager
async def database(dsn: str, service: str, **constants: object) -> AsyncIterator[Database]:
    """The service's database at `dsn`, for as long as the service runs."""
    text = (Path(__file__).with_name(service) / "queries.sql").read_text(encoding="utf-8")
    _, *parts = re.split(r"^-- name: (\w+)$", text, flags=re.MULTILINE)
    queries = {name: query.encode() for name, query in zip(parts[::2], parts[1::2], strict=True)}
    settings = {"row_factory": dict_row, "autocommit": True}
    async with AsyncConnectionPool(
        dsn, connection_class=Connection, kwargs=settings, min_size=2, max_size=POOL_SIZE, open=False
    ) as pool:
        yield Database(pool, queries, constants)


def service(
    routes: Sequence[BaseRoute],
    lifespan: Lifespan,
    refusal: Callable[[ApiError], object] = lambda error: {"error": error.code, "message": error.message},
    middleware: Sequence[Middleware] = (),
) -> Starlette:
    """A service that answers an ApiError, and a path it does not have, with its `refusal`; what `lifespan` yields is
    the requests' state."""

    async def refused(_: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):
            error = ApiError(error.status_code, "not_found", error.detail)
        assert isinstance(error, ApiError)  # noqa: S101  # registered for nothing else
        return answer(refusal(error), error.status)

    handlers = dict.fromkeys((ApiError, HTTPException), refused)
    return Starlette(routes=routes, lifespan=lifespan, middleware=middleware, exception_handlers=handlers)


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
