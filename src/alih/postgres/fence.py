"""The fence in a database: triggers that ask for the tenant's owner, and the turning of an owner.

It is symmetric: the same triggers stand on both sides, so at most one side accepts a write of a tenant, and "which"
is one row. It sees what no gateway sees: jobs, admin tools, a worker that goes on after its client hung up.
What alih's own role writes in replica role is exempt, so the stream can write on the side that does not own.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, LiteralString

from psycopg import AsyncConnection, errors, sql

from alih.errors import Corrupt, Retryable
from alih.model.change import Lsn
from alih.model.contract import Scope
from alih.model.projection import Projection
from alih.model.side import SHARED, Ownership, Side
from alih.model.turn import Turn
from alih.postgres import positions
from alih.postgres.line import Line
from alih.postgres.sql import query
from alih.postgres.statements import trusted

Connection = AsyncConnection[tuple[Any, ...]]

_LOCK_CLASS = 0x616C6968  # "alih": the advisory locks of the fence
_LOCK_TIMEOUT = "SET LOCAL lock_timeout = '200ms'"  # the fence gives way, and never the shopper
_LOCK_ATTEMPTS = 5
_DDL_ATTEMPTS, _DDL_PAUSE_S = 50, 0.1  # a quarter of a minute


async def may_install(connection: Connection, projections: Sequence[Projection]) -> bool:
    """Whether the fence stands, or this role may put it up: it belongs to the owners of all the tables."""
    if await installed(connection, projections):
        return True
    return not await _count(
        connection,
        projections,
        "SELECT count(*) FROM unnest(%s::regclass[]) t JOIN pg_class c ON c.oid = t"
        " WHERE NOT pg_has_role(c.relowner, 'USAGE')",
    )


async def installed(connection: Connection, projections: Sequence[Projection]) -> bool:
    """Whether every table has its triggers, which also fire for replicated writes and exempt this role."""
    return not await _count(
        connection,
        projections,
        "SELECT count(*) FROM unnest(%s::regclass[]) t WHERE 2 <> (SELECT count(*) FROM pg_trigger g"
        " WHERE g.tgrelid = t AND g.tgname IN ('alih_fence', 'alih_fence_truncate') AND g.tgenabled = 'A'"
        " AND strpos(pg_get_triggerdef(g.oid), quote_literal(session_user)) > 0)",
    )


async def _count(connection: Connection, projections: Sequence[Projection], statement: LiteralString) -> int:
    tables = [sql.Identifier(p.reads.schema, p.reads.name).as_string() for p in _fenced(projections)]
    ((count,),) = await (await connection.execute(statement, (tables,))).fetchall()
    return int(count)


def script(projections: Sequence[Projection], tenant_entity: str, role: str) -> str:
    """The whole fence as one script for a superuser, or for the tables' owner if it may act as alih's role: the
    functions are alih's, the triggers the owner's."""
    functions, *rest = (s.as_string() for s in installation(projections, tenant_entity, role))
    ours = [functions, *(s for s in rest if s.startswith("CREATE OR REPLACE FUNCTION"))]
    theirs = [s for s in rest if not s.startswith("CREATE OR REPLACE FUNCTION")]
    act_as = sql.SQL("SET ROLE {}").format(sql.Identifier(role)).as_string()
    return ";\n".join([act_as, query("schema"), *ours, "RESET ROLE", *theirs])


def _fenced(projections: Sequence[Projection]) -> list[Projection]:
    return [p for p in projections if p.scope is not Scope.REFERENCE]


async def tenants(source: Connection, projection: Projection) -> list[str]:
    """The ids of all tenants, in the order of the tenant entity's key; `projection` reads that entity."""
    statement = sql.SQL("SELECT {} FROM {} r ORDER BY {}").format(
        trusted(projection.tenant_read or "NULL"),
        sql.Identifier(projection.reads.schema, projection.reads.name),
        sql.SQL(", ").join(sql.SQL("r.{}").format(sql.Identifier(c.name)) for c in projection.read_key),
    )
    return [tenant for (tenant,) in await (await source.execute(statement)).fetchall()]


def installation(projections: Sequence[Projection], tenant_entity: str, role: str) -> list[sql.Composed]:
    """The statements that put the fence up on the side that `projections` read; `role` is alih's.
    They are for the tables' owner to run, if alih is not allowed to."""
    side = projections[0].direction.reads
    functions = sql.SQL(query("fence")).format(side=sql.Literal(side.value), **{"class": sql.Literal(_LOCK_CLASS)})
    statements = [functions]
    for projection in _fenced(projections):
        registers = side is Side.SOURCE and projection.entity == tenant_entity
        statements.extend(_table(projection, role, registers=registers))
    return statements


def _table(projection: Projection, role: str, *, registers: bool) -> list[sql.Composed]:
    function = sql.Identifier("alih", f"fence_{projection.entity}")
    names = {
        "function": function,
        "table": sql.Identifier(projection.reads.schema, projection.reads.name),
        "role": sql.Literal(role),
    }
    return [_function(projection, function, registers=registers), *(part.format(**names) for part in _TRIGGERS)]


_TRIGGERS = (
    sql.SQL(
        "CREATE OR REPLACE TRIGGER alih_fence AFTER INSERT OR UPDATE OR DELETE ON {table} FOR EACH ROW"
        " WHEN (session_user <> {role} OR current_setting('session_replication_role') <> 'replica')"
        " EXECUTE FUNCTION {function}()"
    ),
    sql.SQL(
        "CREATE OR REPLACE TRIGGER alih_fence_truncate BEFORE TRUNCATE ON {table} FOR EACH STATEMENT"
        " WHEN (session_user <> {role} OR current_setting('session_replication_role') <> 'replica')"
        " EXECUTE FUNCTION alih.fence_truncate()"
    ),
    sql.SQL("ALTER TABLE {table} ENABLE ALWAYS TRIGGER alih_fence, ENABLE ALWAYS TRIGGER alih_fence_truncate"),
)


def _function(projection: Projection, name: sql.Identifier, *, registers: bool) -> sql.Composed:
    """The row trigger of one table, with the tenant's expression written into it."""
    owner = sql.Literal(SHARED) if projection.scope is Scope.SHARED else trusted(projection.tenant_read or "NULL")
    ours = trusted(projection.reads_ours or "true")
    register = _REGISTER.format(tenant=owner) if registers else sql.SQL("")
    return sql.SQL(
        "CREATE OR REPLACE FUNCTION {name}() RETURNS trigger"
        " LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $fence$\n"
        "BEGIN\n"
        "    IF TG_OP <> 'INSERT' THEN\n"
        "        PERFORM alih.admit({tenant}) FROM (SELECT OLD.*) AS r WHERE {ours};\n"
        "    END IF;\n"
        "    IF TG_OP <> 'DELETE' THEN\n"
        "{register}"
        "        PERFORM alih.admit({tenant}) FROM (SELECT NEW.*) AS r WHERE {ours};\n"
        "    END IF;\n"
        "    RETURN NULL;\n"
        "END\n"
        "$fence$"
    ).format(name=name, tenant=owner, ours=ours, register=register)


_REGISTER = sql.SQL(
    "    IF TG_OP = 'INSERT' THEN\n        PERFORM alih.register({tenant}) FROM (SELECT NEW.*) AS r;\n    END IF;\n"
)


async def put_up(connection: Connection, projections: Sequence[Projection], tenant_entity: str) -> None:
    """Put the fence up, or renew its functions if it stands. Waits for open writers of each table a little at a time:
    a trigger's lock queues before the shop's writes. Raises Retryable if they do not end."""
    standing = await installed(connection, projections)
    await connection.execute("SET lock_timeout = '200ms'")
    for statement in installation(projections, tenant_entity, connection.info.user):
        if not standing or _makes_function(statement):
            await _patiently(connection, statement)
    await connection.execute("RESET lock_timeout")


def _makes_function(statement: sql.Composed) -> bool:
    return "CREATE OR REPLACE FUNCTION" in statement.as_string()


async def _patiently(connection: Connection, statement: sql.Composed) -> None:
    for _ in range(_DDL_ATTEMPTS):
        try:
            await connection.execute(statement)
        except errors.LockNotAvailable:
            await asyncio.sleep(_DDL_PAUSE_S)
        else:
            return
    raise Retryable(
        "the fence's triggers cannot be made: a transaction that writes to their table does not end",
        remedy="look for a job or a session idle in transaction in pg_stat_activity, then run again",
    )


class Fence:
    """The owner rows of one side's database; its line is its own."""

    def __init__(self, line: Line, side: Side) -> None:
        self._line = line
        self._side = side

    async def close(self, tenant: str, epoch: int) -> Lsn:
        """Give the tenant to the other side: wait for every transaction that has written its rows, refuse all later
        ones, and return a position in this log that lies after the commits of those accepted.

        The message that marks the turn is written after the locks are held, so it stands behind those commits. Safe
        to repeat. Raises Retryable if writers do not end: then nothing was changed.
        """
        turn = Turn(tenant, self._side.other, epoch)
        async with self._line.connection() as connection:
            for _ in range(_LOCK_ATTEMPTS):
                try:
                    async with _durable(connection):
                        await _await_writers(connection, tenant)
                        return await _turn(connection, turn)
                except errors.LockNotAvailable:
                    continue
        raise Retryable(
            f"tenant {tenant}: a transaction that writes its rows on the {self._side} does not end",
            remedy="look for a job or a session idle in transaction in pg_stat_activity, then run again",
        )

    async def open(self, tenant: str, epoch: int) -> Lsn:
        """Let this side write the tenant's rows. Safe to repeat.

        Nobody can hold a lock that matters: until now every writer was refused, and one that comes later reads the
        turned row and commits behind the message. Where this side has not stopped being the owner, writers go on
        undisturbed: the row stays, for one that reads above READ COMMITTED has it locked. The shared lock waits for
        a fence of ours whose connection was lost in the middle of its commit.
        """
        turn = Turn(tenant, self._side, epoch)
        async with self._line.connection() as connection, _durable(connection):
            await connection.execute("SELECT pg_advisory_xact_lock_shared(%s, hashtext(%s) | 1)", (_LOCK_CLASS, tenant))
            owner = await _owner(connection, tenant)
            if owner is not None and owner.side is self._side:
                return await _announce(connection, turn)
            return await _turn(connection, turn)

    async def owner(self, tenant: str) -> Ownership | None:
        """The tenant's owner as this database knows it."""
        async with self._line.connection() as connection:
            return await _owner(connection, tenant)


@asynccontextmanager
async def _durable(connection: Connection) -> AsyncIterator[None]:
    async with connection.transaction():
        await connection.execute("SET LOCAL synchronous_commit = on")
        yield


async def _await_writers(connection: Connection, tenant: str) -> None:
    await connection.execute(_LOCK_TIMEOUT)
    await connection.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s) | 1)", (_LOCK_CLASS, tenant))
    await connection.execute("SELECT pg_advisory_xact_lock(%s, 0)", (_LOCK_CLASS,))


async def _turn(connection: Connection, turn: Turn) -> Lsn:
    """Turn the row. Raises Corrupt, and nothing is changed, if a later attempt has turned it already."""
    cursor = await connection.execute(
        "INSERT INTO alih.owner (tenant, side, epoch) VALUES (%s, %s, %s) ON CONFLICT (tenant) DO UPDATE"
        " SET side = excluded.side, epoch = excluded.epoch WHERE owner.epoch < excluded.epoch"
        " OR (owner.epoch = excluded.epoch AND owner.side = excluded.side)",
        (turn.tenant, turn.side.value, turn.epoch),
    )
    if cursor.rowcount == 0:
        raise Corrupt(
            f"tenant {turn.tenant} was turned by a later attempt than {turn.epoch}",
            remedy="two controllers are acting at once: stop all but one, then start alih serve again",
        )
    return await _announce(connection, turn)


async def _announce(connection: Connection, turn: Turn) -> Lsn:
    cursor = await connection.execute(
        "SELECT pg_logical_emit_message(true, %s, %s)::text", (positions.OWNER, turn.encode())
    )
    ((position,),) = await cursor.fetchall()
    return Lsn.parse(position)


async def _owner(connection: Connection, tenant: str) -> Ownership | None:
    cursor = await connection.execute("SELECT side, epoch FROM alih.owner WHERE tenant = %s", (tenant,))
    row = await cursor.fetchone()
    return Ownership(tenant, Side(row[0]), row[1]) if row else None


async def register(connection: Connection, tenants: Sequence[str]) -> None:
    """Give every tenant that has no owner row here the source as its owner, before the first row crosses."""
    await connection.execute(
        "INSERT INTO alih.owner (tenant, side, epoch) SELECT t, 'source', 0 FROM unnest(%s::text[]) t"
        " ON CONFLICT DO NOTHING",
        ([*tenants, SHARED],),
    )
