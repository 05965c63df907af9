"""What alih leaves in the two databases, put there and taken away again.

On each side: the schema `alih`; on the reading side of a stream a publication and a slot named after the migration.
A role that owns the tables makes the publication itself; another finds the one its owner made (alih check prints
the statement). The slot of a stream is made once and never again while the stream exists: a slot made anew would
silently skip what was written in between.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import AsyncConnection, errors, sql

from alih.errors import NeedsOperator, Refused, Retryable
from alih.faults import Point, reached
from alih.model.projection import Direction, Projection
from alih.model.side import Side
from alih.model.stream import Identity
from alih.postgres import chunks
from alih.postgres.planning import plan
from alih.postgres.session import only_row
from alih.postgres.sql import query

Connection = AsyncConnection[tuple[Any, ...]]

_ASK_SLOT, _ASK_SLOT_S = 50, 0.1
_SLOT_WITHIN = "120s"


@dataclass(frozen=True, slots=True)
class StreamName:
    """The name of a stream's slot and publication."""

    migration: str
    direction: Direction

    def __str__(self) -> str:
        return f"alih_{self.migration.replace('-', '_')}_{self.direction}"

    @property
    def publications(self) -> tuple[str, str]:
        """The shop's tables, which may be their owner's to offer, and alih's own."""
        return (str(self), f"{self}_canary")


async def install_schema(connection: Connection, migration: str, side: Side, contract: str | None = None) -> None:
    """alih's own tables in this database; in the target with the contract's text. Raises Refused if another migration
    lives here."""
    await connection.execute(query("schema"))
    await connection.execute(
        "INSERT INTO alih.migration (name, side) VALUES (%s, %s) ON CONFLICT DO NOTHING", (migration, side.value)
    )
    cursor = await connection.execute("SELECT name, side FROM alih.migration")
    found = await cursor.fetchone()
    if found != (migration, side.value):
        raise Refused(
            f"this database is the {found and found[1]} of the migration {found and found[0]!r}",
            remedy="finish that one, or remove its traces with alih clean, first",
        )
    if contract is not None:
        await connection.execute("UPDATE alih.migration SET contract = %s", (contract,))


async def installed_contract(connection: Connection) -> str:
    """The contract's text, from the target. Raises NeedsOperator if no migration is installed there."""
    try:
        cursor = await connection.execute("SELECT contract FROM alih.migration WHERE side = 'target'")
    except errors.UndefinedTable:
        found = None
    else:
        found = await cursor.fetchone()
    if found is None or found[0] is None:
        raise NeedsOperator(
            "no migration is installed in this target", remedy="start alih run or alih serve first, then the worker"
        )
    return str(found[0])


async def publish(connection: Connection, name: StreamName, projections: Sequence[Projection]) -> None:
    """Offer the columns that cross, and no other, to the stream; safe to repeat."""
    cursor = await connection.execute("SELECT FROM pg_publication WHERE pubname = %s", (str(name),))
    if await cursor.fetchone() is None:
        try:
            await connection.execute(publication(name, projections))
        except errors.InsufficientPrivilege:
            raise NeedsOperator(
                f"the role may not make the publication {name}",
                remedy="let the tables' owner run the statement that alih check prints",
            ) from None


def publication(name: StreamName, projections: Sequence[Projection]) -> sql.Composed:
    """The statement that makes the publication: each table with its crossing columns only, a partitioned one as the
    one table that it is to the contract."""
    tables = [
        sql.SQL("{} ({})").format(
            sql.Identifier(p.reads.schema, p.reads.name),
            sql.SQL(", ").join(sql.Identifier(c.name) for c in p.read_columns),
        )
        for p in projections
    ]
    return sql.SQL("CREATE PUBLICATION {} FOR TABLE {} WITH (publish_via_partition_root = true)").format(
        sql.Identifier(str(name)), sql.SQL(", ").join(tables)
    )


async def open_stream(
    reads: Connection, writes: Connection, name: StreamName, identity: Identity, copied: Sequence[Projection]
) -> None:
    """Make the slot, then the stream's row and its chunks; safe to repeat. `copied` are the entities to be copied
    (none for a reverse stream). What an earlier run stopped for is forgotten: if it still holds, the follower stops
    again, and until then nobody has to take it for news. Both connections are in autocommit."""
    cursor = await writes.execute(
        "UPDATE alih.stream SET stopped = NULL WHERE direction = %s RETURNING slot", (name.direction.value,)
    )
    if await cursor.fetchone() is None:
        publication = await _publication_id(reads, name)
        position = await _make_slot(reads, str(name))
        reached(Point.SLOT_MADE)
        await writes.execute(
            "INSERT INTO alih.stream (direction, slot, system_id, timeline, publication, position)"
            " VALUES (%s, %s, %s, %s, %s, %s)",
            (name.direction.value, str(name), identity.system_id, identity.timeline, publication, position),
        )
    async with writes.transaction():
        await chunks.hold_stream(writes, name.direction)
        known = await chunks.planned(writes, name.direction)
        await chunks.add(writes, name.direction, [await plan(reads, p) for p in copied if p.entity not in known])


async def _publication_id(reads: Connection, name: StreamName) -> int:
    cursor = await reads.execute("SELECT oid::bigint FROM pg_publication WHERE pubname = %s", (str(name),))
    (oid,) = await only_row(cursor)
    return int(oid)


async def _make_slot(reads: Connection, slot: str) -> str:
    """A slot that nobody has streamed from yet; one left by a run that died before storing it is made anew. Raises
    Retryable if the transactions that are open now do not end: a slot begins behind the last of them."""
    await _drop_slot(reads, slot)
    await reads.execute("SELECT set_config('statement_timeout', %s, false)", (_SLOT_WITHIN,))
    try:
        cursor = await reads.execute(
            "SELECT lsn::text FROM pg_create_logical_replication_slot(%s, 'pgoutput')", (slot,)
        )
    except errors.ConfigurationLimitExceeded:
        raise NeedsOperator("no replication slot is free", remedy="raise max_replication_slots") from None
    except errors.QueryCanceled:
        raise Retryable(
            f"slot {slot} could not be made within {_SLOT_WITHIN}: it waits for a transaction that does not end",
            remedy="alih check lists transactions that are open for long; end them, then run again",
        ) from None
    finally:
        await reads.execute("RESET statement_timeout")
    (position,) = await only_row(cursor)
    return str(position)


async def _drop_slot(connection: Connection, slot: str) -> None:
    """Drop the slot if it is there. A follower that has just ended holds it for a moment longer."""
    for _ in range(_ASK_SLOT):
        try:
            await connection.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s", (slot,)
            )
        except errors.ObjectInUse:
            await asyncio.sleep(_ASK_SLOT_S)
        else:
            return
    raise NeedsOperator(f"slot {slot} is in use", remedy="another alih follows it: stop that one, then run this again")


async def remove(connection: Connection, migration: str) -> list[str]:
    """Take every trace of the migration out of this database. Returns the statements that only the tables' owner
    may run (a publication that the owner made)."""
    left: list[str] = []
    for direction in Direction:
        name = StreamName(migration, direction)
        await _drop_slot(connection, str(name))
        for publication_name in name.publications:
            drop = sql.SQL("DROP PUBLICATION IF EXISTS {}").format(sql.Identifier(publication_name))
            try:
                await connection.execute(drop)
            except errors.InsufficientPrivilege:
                left.append(drop.as_string())
    await connection.execute("SET client_min_messages = warning")
    try:
        await connection.execute("DROP SCHEMA IF EXISTS alih CASCADE")
    except errors.InsufficientPrivilege:
        left.append("DROP SCHEMA alih CASCADE")
    return left
