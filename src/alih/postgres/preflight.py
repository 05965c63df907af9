"""What a database still lacks before a stream can run: exact statements for its DBA, and no superuser for alih.

Reads the catalog only. Sources: https://www.postgresql.org/docs/current/logical-replication-config.html and
.../logical-replication-security.html.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString

import sqlglot
from psycopg import AsyncConnection, errors, sql
from psycopg.rows import DictRow, dict_row
from sqlglot import exp

from alih.model.contract import Contract, Table
from alih.model.projection import Direction, Projection
from alih.model.side import Side
from alih.postgres.installation import StreamName, publication
from alih.postgres.sequences import Pair, layouts, of, too_narrow, unnoted
from alih.postgres.sql import query

_OLDEST, _NEWEST = 15, 18  # column lists of publications and GRANT … ON PARAMETER came with 15

Connection = AsyncConnection[Any]


@dataclass(frozen=True, slots=True)
class Need:
    """Something to change. `sql` is the statement for a superuser or the tables' owner, "" when there is none;
    `blocking` says that alih cannot start without it."""

    sql: str
    why: str
    blocking: bool


async def missing(conn: Connection, contract: Contract, projections: Iterable[Projection], side: Side) -> list[Need]:
    """What `conn`'s role and server lack to be the `side` of the migration; `projections` are both directions'.

    Nothing is changed. The statements may be run in order, as they are; those that need a restart say so.
    """
    streams = list(projections)
    name = StreamName(contract.name, Direction.FORWARD if side is Side.SOURCE else Direction.REVERSE)
    server = (await _rows(conn, "preflight_server", slot=str(name)))[0]
    if server["standby"]:
        return [Need("", "this server is a standby, which does not list open transactions: name the primary", True)]
    needs = [*_version(server), *_settings(server, side), *_role(server)]
    if needs and not server["version"] // 10000 >= _OLDEST:
        return needs
    needs += [need async for need in _parameter(conn, server)]
    for table in _Tables(streams, side).all():
        needs += [need async for need in _table(conn, server["role"], table)]
    needs += [need async for need in _link(conn, contract, server["role"], side)]
    reading = [p for p in streams if p.direction is name.direction]
    needs += [need async for need in _published(conn, name, reading)]
    needs += [need async for need in _open_transactions(conn, server)]
    return needs


async def _rows(conn: Connection, name: str, /, **parameters: object) -> list[DictRow]:
    async with conn.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query(name), parameters or None)
        return await cursor.fetchall()


def _statement(text: LiteralString, /, **names: sql.Composable) -> str:
    return sql.SQL(text).format(**names).as_string()


def _version(server: DictRow) -> Iterator[Need]:
    major = server["version"] // 10000
    if not _OLDEST <= major <= _NEWEST:
        yield Need("", f"PostgreSQL {major} is not served: versions {_OLDEST} to {_NEWEST} are", True)


def _settings(server: DictRow, side: Side) -> Iterator[Need]:
    if server["wal_level"] != "logical":
        yield Need("ALTER SYSTEM SET wal_level = 'logical'", "the log must carry rows; then restart the server", True)
    for setting, free in (("max_replication_slots", server["free_slots"]), ("max_wal_senders", server["free_senders"])):
        if free < 1:
            yield Need(
                f"ALTER SYSTEM SET {setting} = '20'",
                f"none is free for the {side}'s stream; then restart the server",
                True,
            )
    if server["slot_wal_limit"] != "-1":
        yield Need(
            "ALTER SYSTEM RESET max_slot_wal_keep_size",
            f"a slot that is behind by {server['slot_wal_limit']} is lost, and the copy begins anew; then reload",
            False,
        )


def _role(server: DictRow) -> Iterator[Need]:
    names = {"role": sql.Identifier(server["role"]), "database": sql.Identifier(server["database"])}
    if not server["may_replicate"]:
        yield Need(
            _statement("ALTER ROLE {role} REPLICATION", **names), "the role opens the slot and follows the log", True
        )
    if not server["may_create"] and not server["has_schema"]:
        yield Need(
            _statement("GRANT CREATE ON DATABASE {database} TO {role}", **names),
            "alih keeps its state in a schema alih",
            True,
        )
    if not server["may_stage"]:
        yield Need(
            _statement("GRANT TEMPORARY ON DATABASE {database} TO {role}", **names),
            "batches are staged in temporary tables",
            True,
        )
    if not server["sees_activity"]:
        yield Need(
            _statement("GRANT pg_read_all_stats TO {role}", **names),
            "without it alih cannot see how long others' transactions are open",
            False,
        )


async def _parameter(conn: Connection, server: DictRow) -> AsyncIterator[Need]:
    cursor = await conn.execute("SELECT has_parameter_privilege('session_replication_role', 'SET')")
    row = await cursor.fetchone()
    if row is None or not row[0]:
        yield Need(
            _statement(
                "GRANT SET ON PARAMETER session_replication_role TO {role}", role=sql.Identifier(server["role"])
            ),
            "rows are applied in replica role, so that the shop's own triggers do not fire a second time",
            True,
        )


@dataclass(frozen=True, slots=True)
class _Use:
    """What alih does with a table: columns it reads and columns it writes, in table order as far as known."""

    table: Table
    reads: tuple[str, ...]
    writes: tuple[str, ...]


class _Tables:
    """The tables of one side, with what both directions do with them."""

    def __init__(self, projections: Sequence[Projection], side: Side) -> None:
        self._projections = projections
        self._side = side

    def all(self) -> Iterator[_Use]:
        """Each table once."""
        for entity in dict.fromkeys(p.entity for p in self._projections):
            of = [p for p in self._projections if p.entity == entity]
            reading = [c.name for p in of if p.direction.reads is self._side for c in p.read_columns]
            writing = [a.column for p in of if p.direction.writes is self._side for a in p.assignments]
            here = next(p.reads if p.direction.reads is self._side else p.writes for p in of)
            # xmin tells verification which transaction wrote a row.
            seen = ["xmin"] if reading else []
            yield _Use(here, tuple(dict.fromkeys(reading + writing + seen)), tuple(writing))


async def _table(conn: Connection, role: str, use: _Use) -> AsyncIterator[Need]:
    at = {"schema": use.table.schema, "name": use.table.name}
    found = await _rows(conn, "preflight_table", **at)
    if not found:
        return  # `check` has said so
    names = {"table": sql.Identifier(use.table.schema, use.table.name), "role": sql.Identifier(role)}
    if not found[0]["may_enter"]:
        schema = sql.Identifier(use.table.schema)
        yield Need(
            _statement("GRANT USAGE ON SCHEMA {schema} TO {role}", schema=schema, **names),
            f"{use.table} is in it",
            True,
        )
    for privilege, wanted, why in (
        ("SELECT", use.reads, "is read, these columns only"),
        ("INSERT", use.writes, "is written"),
        ("UPDATE", use.writes, "is written"),
    ):
        rows = await _rows(conn, "preflight_columns", **at, columns=list(wanted), privilege=privilege)
        if rows:
            columns = sql.SQL(", ").join(sql.Identifier(row["name"]) for row in rows)
            grant = _statement(
                "GRANT {what} ({columns}) ON {table} TO {role}", what=sql.SQL(privilege), columns=columns, **names
            )
            yield Need(grant, f"{use.table} {why}", True)
    if use.writes and not found[0]["may_delete"]:
        yield Need(_statement("GRANT DELETE ON {table} TO {role}", **names), f"{use.table} is written", True)
    if found[0]["rows_hidden"]:
        yield Need(_statement("ALTER ROLE {role} BYPASSRLS", **names), f"{use.table} hides rows from the role", True)


async def _link(conn: Connection, contract: Contract, role: str, side: Side) -> AsyncIterator[Need]:
    if side is Side.SOURCE:
        return
    for entity in contract.entities:
        for table in _linked_tables(entity.link):
            cursor = await conn.execute("SELECT has_table_privilege(to_regclass(%s), 'SELECT')", (table.as_string(),))
            row = await cursor.fetchone()
            if row is not None and row[0] is False:
                grant = _statement("GRANT SELECT ON {table} TO {role}", table=table, role=sql.Identifier(role))
                yield Need(grant, f"the link of {entity.name} is read from it", True)


def _linked_tables(link: str | None) -> list[sql.Identifier]:
    if link is None:
        return []
    found = sqlglot.parse_one(link, dialect="postgres").find_all(exp.Table)
    return [sql.Identifier(*(part.name for part in table.parts)) for table in found]


async def _published(conn: Connection, name: StreamName, reading: Sequence[Projection]) -> AsyncIterator[Need]:
    if not reading:
        return
    rows = await _rows(conn, "preflight_publication", publication=str(name))
    offered = {(row["schema"], row["table"], row["column"]) for row in rows}
    wanted = {(p.reads.schema, p.reads.name, c.name) for p in reading for c in p.read_columns}
    statement = publication(name, reading).as_string()
    if offered and offered != wanted:
        drop = _statement("DROP PUBLICATION {name}", name=sql.Identifier(str(name)))
        yield Need(f"{drop}; {statement}", "the publication offers other columns than the contract", True)
    elif not offered and not await _owns_all(conn, reading):
        yield Need(statement, "only the tables' owner can offer their columns to the stream", True)


async def _owns_all(conn: Connection, reading: Sequence[Projection]) -> bool:
    for projection in reading:
        rows = await _rows(conn, "preflight_table", schema=projection.reads.schema, name=projection.reads.name)
        if not all(row["owned"] for row in rows):
            return False
    return True


async def _open_transactions(conn: Connection, server: DictRow) -> AsyncIterator[Need]:
    for row in await _rows(conn, "preflight_long_transactions"):
        why = f"process {row['pid']} has had a transaction open for {row['seconds']} s, and a slot waits for its end"
        yield Need("", why, False)
    if server["prepared"]:
        why = f"{server['prepared']} prepared transactions are open, and a slot waits for them: end each by its gid"
        yield Need("", why, True)


async def sequences(conn: Connection, paired: Sequence[Pair], side: Side) -> list[Need]:
    """The rights on sequences that fill columns which cross: the source's are read, the target's set once."""
    cursor = await conn.execute("SELECT quote_ident(session_user)")
    ((role,),) = await cursor.fetchall()
    needs = []
    for (table, column), row in (await of(conn, paired, side)).items():
        rights = ["SELECT"] * (not row["may_read"]) + ["UPDATE"] * (side is Side.TARGET and not row["may_set"])
        if rights:
            grant = f"GRANT {', '.join(rights)} ON SEQUENCE {row['name']} TO {role}"
            needs.append(Need(grant, f"it numbers {table}.{column}, and both sides' numbers are kept apart", True))
        elif row["cycles"] or row["step"] < 0:
            why = f"{row['name']} counts down or begins again: alih does not keep the numbers of {table}.{column} apart"
            needs.append(Need("", why, False))
    return needs


async def room(source: Connection, target: Connection, paired: Sequence[Pair]) -> list[Need]:
    """Columns whose type has no room for two ranges of numbers. Reads both sides' greatest; while the right to that is
    among the needs of a side, nothing can be said."""
    try:
        found = await layouts(source, target, await unnoted(target, paired))
    except errors.InsufficientPrivilege:
        return []
    return [Need("", too_narrow(layout), True) for layout in found if layout.ranges is None]
