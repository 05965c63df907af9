"""Fresh databases on the session's clusters, one set a test, and everything that a test leaves behind in a cluster."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import psycopg
from psycopg import sql

from alih.postgres.embedded import Cluster

_numbers = itertools.count(1)

# What belongs to a cluster and not to one database, and so would meet the next test.
_SLOTS = "SELECT slot_name, active_pid FROM pg_replication_slots WHERE database = %s"
_PREPARED = "SELECT gid FROM pg_prepared_xacts WHERE database = %s"
_ORIGINS = "SELECT roname FROM pg_replication_origin"
_ROLES = r"SELECT rolname FROM pg_roles WHERE rolname !~ '^pg_' AND rolname <> 'postgres'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Databases:
    """DSNs of three empty databases on clusters of their own, as the superuser. The control database is made when it
    is asked for: most tests need two, and making one is the dearest thing that they do."""

    source: str
    target: str
    made_control: Callable[[], str] = field(repr=False)

    @property
    def control(self) -> str:
        return self.made_control()


@contextmanager
def fresh_database(cluster: Cluster) -> Iterator[str]:
    """The DSN of a new empty database; it goes afterwards, with the slots, origins and roles made meanwhile."""
    name = f"test_{next(_numbers)}"
    with psycopg.connect(cluster.dsn(), autocommit=True) as admin:
        admin.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        yield cluster.dsn(name)
    finally:  # on another connection: a test may have crashed the server
        _end_prepared(cluster.dsn(name), name)
        with psycopg.connect(cluster.dsn(), autocommit=True) as admin:
            _drop_slots(admin, name)
            admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
            _drop_origins(admin)
            _drop_roles(admin)


def _end_prepared(dsn: str, database: str) -> None:
    with psycopg.connect(dsn, autocommit=True) as inside:  # a prepared transaction ends where it began
        for (gid,) in inside.execute(_PREPARED, (database,)).fetchall():
            inside.execute(sql.SQL("ROLLBACK PREPARED {}").format(gid))


def _drop_slots(admin: psycopg.Connection, database: str) -> None:
    for slot, active_pid in admin.execute(_SLOTS, (database,)).fetchall():
        if active_pid is not None:
            admin.execute("SELECT pg_terminate_backend(%s, 5000)", (active_pid,))
        admin.execute("SELECT pg_drop_replication_slot(%s)", (slot,))


def _drop_origins(admin: psycopg.Connection) -> None:
    for (origin,) in admin.execute(_ORIGINS).fetchall():
        admin.execute("SELECT pg_replication_origin_drop(%s)", (origin,))


def _drop_roles(admin: psycopg.Connection) -> None:
    for (role,) in admin.execute(_ROLES).fetchall():
        admin.execute(sql.SQL("DROP OWNED BY {}").format(sql.Identifier(role)))
        admin.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role)))
