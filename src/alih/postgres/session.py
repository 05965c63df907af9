"""Connections to the databases of a migration."""

from typing import Any, LiteralString

import psycopg
from psycopg import AsyncConnection, AsyncCursor

from alih.errors import AlihError, Corrupt, NeedsOperator, Retryable

Connection = AsyncConnection[tuple[Any, ...]]

_CONNECT_WITHIN_S = 10


async def connect(
    dsn: str, what: str, *, autocommit: bool = True, replication: LiteralString | None = None
) -> Connection:
    """A connection to `what` ("the source database"). Raises Retryable if no server answers there, NeedsOperator if
    it refuses; libpq's reason is given, the DSN and its password are not."""
    options: dict[str, Any] = {} if replication is None else {"replication": replication}
    try:
        return await AsyncConnection.connect(
            dsn, autocommit=autocommit, connect_timeout=_CONNECT_WITHIN_S, application_name="alih", **options
        )
    except psycopg.OperationalError as down:
        raise _unanswered(what, str(down).strip().splitlines()[-1]) from None


def _unanswered(what: str, reason: str) -> AlihError:
    """libpq gives no code here: a server that refuses says FATAL, unless it is only starting or stopping."""
    refused = "FATAL" in reason and "the database system is" not in reason
    return (NeedsOperator if refused else Retryable)(
        f"{what} does not answer: {reason}",
        remedy="check that the server runs and that the DSN in alih.yaml names it, then run again",
    )


async def only_row(cursor: AsyncCursor[tuple[Any, ...]]) -> tuple[Any, ...]:
    """The row of a query that always has one."""
    row = await cursor.fetchone()
    if row is None:
        raise Corrupt("a query that always gives a row gave none", remedy="report this with the server's version")
    return row
