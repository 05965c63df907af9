"""The keys that changed since they were last verified, on the writing side: the changed log.

The follower adds to it in the transaction that writes the rows. Verification asks it twice: which keys of a tenant
to compare inside the hold, and which transaction was last applied to a key that changes while it is looked at.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from psycopg import AsyncConnection, sql

from alih.model.change import Lsn
from alih.model.projection import Direction, Projection
from alih.postgres.sql import query
from alih.postgres.statements import Statements, trusted

Connection = AsyncConnection[tuple[Any, ...]]
Key = tuple[str, ...]

_EVER = Lsn(0)


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


def log_standing(statements: Statements, position: Lsn) -> sql.Composed:
    """The statement that notes the keys of rows that are about to be deleted or replaced, under the tenant that
    they have on the writing side."""
    rows = _keys(statements, statements.stage, statements.tenant_standing, sql.SQL("r._op IN ('D', 'R')"))
    return _log(statements, position, rows)


def log_staged(statements: Statements, position: Lsn, *, moves: bool) -> sql.Composed:
    """The statement that notes the keys of all rows that were inserted and updated; with `moves` former keys too."""
    rows = _keys(statements, statements.stage, statements.tenant_staged, sql.SQL("r._op <> 'D'"))
    if moves:
        former = _keys(statements, statements.old_keys, sql.SQL("r._tenant"), sql.SQL("true"))
        rows = sql.SQL("{} UNION ALL {}").format(rows, former)
    return _log(statements, position, rows)


def _keys(statements: Statements, rows: sql.Composable, tenant: sql.Composable, which: sql.Composable) -> sql.Composed:
    projection = statements.projection
    return sql.SQL("SELECT {} AS tenant, {} AS written, {} AS read, r._xid AS xid FROM {} r WHERE {}").format(
        tenant,
        _text([sql.SQL("({})::text").format(trusted(a.sql)) for a in projection.write_key]),
        _text([sql.SQL("(r.{})::text").format(sql.Identifier(c.name)) for c in projection.read_key]),
        rows,
        which,
    )


def _text(key: Sequence[sql.Composed]) -> sql.Composed:
    """A key as one text: the value where it is one column, else an array's text form."""
    return key[0] if len(key) == 1 else sql.SQL("ARRAY[{}]::text").format(sql.SQL(", ").join(key))


def _log(statements: Statements, position: Lsn, rows: sql.Composed) -> sql.Composed:
    projection = statements.projection
    return sql.SQL(
        "INSERT INTO alih.changed (direction, entity, tenant, position, widths, written, read, xids)"
        " SELECT {direction}, {entity}, tenant, {position}::pg_lsn, {widths}, array_agg(written), {read},"
        " array_agg(xid) FROM ({rows}) k GROUP BY tenant"
    ).format(
        direction=sql.Literal(projection.direction.value),
        entity=sql.Literal(projection.entity),
        position=sql.Literal(str(position)),
        widths=sql.SQL("ARRAY[{}, {}]").format(len(projection.write_key), len(projection.read_key)),
        read=sql.SQL("NULL") if _same_keys(projection) else sql.SQL("array_agg(read)"),
        rows=rows,
    )


def _same_keys(projection: Projection) -> bool:
    """Whether a row has the same key on both sides."""
    pairs = zip_longest(projection.write_key, projection.read_key)
    return all(a and c and a.type == c.type and a.sql == f'(r."{c.name}")::{a.type}' for a, c in pairs)


async def of_tenants(
    connection: Connection, direction: Direction, tenants: Sequence[str]
) -> Mapping[str, Sequence[Changed]]:
    """The changed keys of these tenants by entity, each key once, in one query: somebody may be waiting."""
    cursor = await connection.execute(
        query("changed_of_tenants"), {"direction": direction.value, "tenants": list(tenants)}
    )
    found: dict[str, list[Changed]] = {}
    for entity, written, read in await cursor.fetchall():
        found.setdefault(entity, []).append(Changed(tuple(written), tuple(read)))
    return found


async def applied(
    connection: Connection, direction: Direction, entity: str, keys: Sequence[Key], since: Lsn = _EVER
) -> Mapping[Key, Touched]:
    """What was last applied to these keys (as the writing side has them), where that is still known and stands in
    the log behind `since`: what lies further back than one cares for need not be looked through."""
    if not keys:
        return {}
    asked = {"direction": direction.value, "entity": entity, "keys": [list(key) for key in keys], "since": str(since)}
    cursor = await connection.execute(query("changed_applied"), asked)
    return {
        keys[place - 1]: Touched(int(xid), Lsn.parse(at), tuple(own)) for place, xid, at, own in await cursor.fetchall()
    }


async def forget(connection: Connection, direction: Direction, position: Lsn, tenants: Sequence[str] | None) -> None:
    """Forget the keys (of these tenants) whose last change stands in the log up to `position`; the follower need not
    wait for that, nor this for the follower."""
    await connection.execute(
        "DELETE FROM alih.changed WHERE direction = %(direction)s AND position <= %(position)s"
        " AND (%(tenants)s::text[] IS NULL OR tenant = ANY(%(tenants)s::text[]))",
        {
            "direction": direction.value,
            "position": str(position),
            "tenants": None if tenants is None else list(tenants),
        },
    )


async def compact(connection: Connection, direction: Direction) -> int:
    """Keep the last change of each key only, and say how many keys are left. A key may then count as changed up to a
    later position than it was: verification compares it once more than it had to."""
    cursor = await connection.execute(query("changed_compact"), {"direction": direction.value})
    return sum([count for (count,) in await cursor.fetchall()])
