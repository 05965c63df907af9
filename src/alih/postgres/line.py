"""A connection that is made anew when it was lost: for what has to be put right just then."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Self

from alih.postgres.failures import named
from alih.postgres.session import Connection, alive, connect


class Line:
    """An async context with one connection, in autocommit, for one user at a time: two transactions on it would become
    one. What runs into the loss of it raises Retryable; whoever comes next gets a new one, as does who comes first
    after it was lost while idle."""

    def __init__(self, dsn: str, what: str) -> None:
        self._dsn = dsn
        self._what = what
        self._connection: Connection | None = None
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        await self._connected()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            await self._connection.close()

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """The connection, when it is nobody else's. Errors of the server within come out as alih's own."""
        async with self._turn:
            connection = await self._connected()
            with named(self._what):
                yield connection

    async def _connected(self) -> Connection:
        if self._connection is None or not alive(self._connection):
            self._connection = await connect(self._dsn, self._what)
        return self._connection
