"""The demo's databases: owners, schemas, and rows in by COPY."""

from collections.abc import Iterable
from pathlib import Path

import psycopg
from psycopg import sql

SERVICES = Path(__file__).parent.parent / "services"
NAMES = ("legacy", "marketplace", "social", "provider")

_ROLE_EXISTS = "SELECT FROM pg_roles WHERE rolname = %s"


def owner_of(service: str) -> str:
    """The role that owns the service's database; no superuser."""
    return f"{service}_app"


def create_roles(admin_dsn: str) -> None:
    """Make the services' roles on this cluster, where they are missing: they may log in and nothing more."""
    with psycopg.connect(admin_dsn) as conn:
        for role in map(owner_of, NAMES):
            if conn.execute(_ROLE_EXISTS, (role,)).fetchone() is None:
                conn.execute(sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)))


def create_database(admin_dsn: str, service: str) -> None:
    """Make the service's database, named like the service and owned by its role."""
    create = sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(service), sql.Identifier(owner_of(service)))
    with psycopg.connect(admin_dsn, autocommit=True) as conn:
        conn.execute(create)


def create_schemas(
    *, legacy: str | None = None, marketplace: str | None = None, social: str | None = None, provider: str | None = None
) -> None:
    """Make the tables of every service whose DSN is given, as the role that it names."""
    dsns = {"legacy": legacy, "marketplace": marketplace, "social": social, "provider": provider}
    for service, dsn in dsns.items():
        if dsn is not None:
            with psycopg.connect(dsn) as conn:
                conn.execute((SERVICES / service / "schema.sql").read_bytes())


def copy_in(conn: psycopg.Connection, table: str, columns: str, rows: Iterable[tuple[object, ...]]) -> None:
    """Write `rows` into the columns named in `columns`, in this order; the first one's sequence goes on behind them."""
    names = columns.split()
    identifiers = sql.SQL(", ").join(map(sql.Identifier, names))
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(sql.Identifier(table), identifiers)
    with conn.cursor() as cursor, cursor.copy(statement) as copy:
        for row in rows:
            copy.write_row(row)
    go_on = sql.SQL("SELECT setval(pg_get_serial_sequence({}, {}), max({})) FROM {}")
    conn.execute(
        go_on.format(sql.Literal(table), sql.Literal(names[0]), sql.Identifier(names[0]), sql.Identifier(table))
    )
