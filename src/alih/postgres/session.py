"""Connections to the databases of a migration."""

import logging
import select
from types import MappingProxyType
from typing import Any, Final, LiteralString

import psycopg
from psycopg import AsyncConnection, AsyncCursor
from psycopg.conninfo import conninfo_to_dict

from alih.errors import AlihError, Corrupt, NeedsOperator, Retryable

# psycopg warns on stderr of a cancellation that meets a lost connection; what was lost, alih says itself.
logging.getLogger("psycopg").setLevel(logging.ERROR)

Connection = AsyncConnection[tuple[Any, ...]]

_CONNECT_WITHIN_S = 10
_LIVELY: Final = MappingProxyType(  # over TCP, a host that is gone is noticed within half a minute
    {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3, "tcp_user_timeout": 25_000}
)
_PASSING: Final = (  # texts of refusals that end by themselves; libpq gives no code for a connection that was refused
    "the database system is",  # starting up, shutting down, in recovery mode
    "too many",  # clients, connections for the role or the database
    "connection slots are reserved",
    "exceeds max_wal_senders",
    "terminating connection",
)


async def connect(
    dsn: str, what: str, *, autocommit: bool = True, replication: LiteralString | None = None
) -> Connection:
    """A connection to `what` ("the source database"). Raises Retryable if no server answers there, NeedsOperator if
    it refuses; libpq's reason is given, the DSN and its password are not."""
    options: dict[str, Any] = {} if replication is None else {"replication": replication}
    options |= {name: value for name, value in _LIVELY.items() if name not in conninfo_to_dict(dsn)}
    try:
        return await AsyncConnection.connect(
            dsn, autocommit=autocommit, connect_timeout=_CONNECT_WITHIN_S, application_name="alih", **options
        )
    except psycopg.OperationalError as down:
        raise _unanswered(what, str(down).strip().splitlines()[-1]) from None


def _unanswered(what: str, reason: str) -> AlihError:
    """A server that refuses says FATAL; a role, a password or a database that is wrong does not mend itself."""
    refused = "FATAL" in reason and not any(text in reason for text in _PASSING)
    return (NeedsOperator if refused else Retryable)(
        f"{what} does not answer: {reason}",
        remedy="check that the server runs and that the DSN in alih.yaml names it, then run again",
    )


def alive(connection: Connection) -> bool:
    """Whether an idle connection still stands, as far as this end has been told; asks nobody."""
    while not connection.closed and _has_news(connection):
        try:
            connection.pgconn.consume_input()
        except psycopg.OperationalError:
            return False
    return not connection.closed


def _has_news(connection: Connection) -> bool:
    poll = select.poll()
    poll.register(connection.pgconn.socket, select.POLLIN)
    return bool(poll.poll(0))


def parts(dsn: str) -> dict[str, Any]:
    """What a DSN says, by libpq's names."""
    return dict(conninfo_to_dict(dsn))


async def only_row(cursor: AsyncCursor[tuple[Any, ...]]) -> tuple[Any, ...]:
    """The row of a query that always has one."""
    row = await cursor.fetchone()
    if row is None:
        raise Corrupt("a query that always gives a row gave none", remedy="report this with the server's version")
    return row
