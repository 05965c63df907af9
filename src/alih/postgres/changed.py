"""The keys that changed since they were last verified, on the writing side: the changed log.

The follower adds to it in the transaction that writes the rows. Verification asks it twice: which keys of a tenant
to compare inside the hold, and which transaction was last applied to a key that changes while it is looked at.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection, sql
from psycopg.types.json import Jsonb

from alih.model.change import Lsn
from alih.model.projection import Direction
from alih.postgres.statements import Statements, columns, trusted

Connection = AsyncConnection[tuple[Any, ...]]
Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Changed:
    """A row that changed, under its key on either side; values as text."""

    write_key: Key
    read_key: Key


@dataclass(frozen=True, slots=True)
class Touched:
    """The transaction (32 bits) that alih last applied to a key, where in the log it ends at the latest, and the key
    on the reading side."""

    xid: int
    position: Lsn
    read_key: Key


def log_changed(statements: Statements, position: Lsn) -> sql.Composed:
    """The statement that notes the keys of what is staged, former ones too."""
    projection = statements.projection
    written = [sql.SQL("({})::text").format(trusted(a.sql)) for a in projection.write_key]
    read = [sql.SQL("(r.{})::text").format(sql.Identifier(c.name)) for c in projection.read_key]
    return sql.SQL(
        "INSERT INTO alih.changed (direction, entity, write_key, read_key, tenant, xid, position)"
        " SELECT {direction}, {entity}, ARRAY[{written}], ARRAY[{read}], {tenant}, r._xid, {position}::pg_lsn"
        " FROM (SELECT _xid, _tenant, {key} FROM {stage} UNION ALL SELECT * FROM {old} o) r"
        " ON CONFLICT (direction, entity, write_key) DO UPDATE SET read_key = excluded.read_key,"
        " tenant = coalesce(excluded.tenant, changed.tenant), xid = excluded.xid, position = excluded.position"
    ).format(
        direction=sql.Literal(projection.direction.value),
        entity=sql.Literal(projection.entity),
        position=sql.Literal(str(position)),
        written=sql.SQL(", ").join(written),
        read=sql.SQL(", ").join(read),
        tenant=statements.tenant,
        stage=statements.stage,
        old=statements.old_keys,
        key=columns([c.name for c in projection.read_key]),
    )


async def of_tenants(
    connection: Connection, direction: Direction, tenants: Sequence[str]
) -> Mapping[str, Sequence[Changed]]:
    """The changed keys of these tenants by entity, each key once, in one query: somebody may be waiting."""
    cursor = await connection.execute(
        "SELECT entity, write_key, read_key FROM alih.changed WHERE direction = %s AND tenant = ANY(%s::text[])",
        (direction.value, list(tenants)),
    )
    found: dict[str, list[Changed]] = {}
    for entity, written, read in await cursor.fetchall():
        found.setdefault(entity, []).append(Changed(tuple(written), tuple(read)))
    return found


async def applied(
    connection: Connection, direction: Direction, entity: str, keys: Sequence[Key]
) -> Mapping[Key, Touched]:
    """What was last applied to these keys (as the writing side has them), where that is still known."""
    cursor = await connection.execute(
        "SELECT write_key, xid, position::text, read_key FROM alih.changed WHERE direction = %s AND entity = %s"
        " AND write_key IN (SELECT ARRAY(SELECT jsonb_array_elements_text(k)) FROM jsonb_array_elements(%s) k)",
        (direction.value, entity, Jsonb([list(key) for key in keys])),
    )
    return {tuple(key): Touched(int(xid), Lsn.parse(at), tuple(own)) for key, xid, at, own in await cursor.fetchall()}


async def forget(connection: Connection, direction: Direction, position: Lsn, tenants: Sequence[str] | None) -> None:
    """Forget the keys (of these tenants) whose last change stands in the log up to `position`. What the follower is
    writing at this moment stays noted: neither waits for the other."""
    await connection.execute(
        "DELETE FROM alih.changed WHERE ctid = ANY(ARRAY(SELECT ctid FROM alih.changed"
        " WHERE direction = %(direction)s AND position <= %(position)s"
        " AND (%(tenants)s::text[] IS NULL OR tenant = ANY(%(tenants)s::text[])) FOR UPDATE SKIP LOCKED))",
        {
            "direction": direction.value,
            "position": str(position),
            "tenants": None if tenants is None else list(tenants),
        },
    )
