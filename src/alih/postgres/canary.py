"""A canary row proves that a stream carries rows, before anything depends on it.

`alih.canary` is a table of alih's own in both databases. A row is written on the reading side, without the mark of
alih's own writes, and has to arrive by the stream's ordinary path: publication, slot, decoding, staging, statement,
position. That the reverse stream is set up and polls proves nothing; nobody writes on the target before the first
flip, so a way back that is broken would be found when it is needed.
"""

from psycopg import errors, sql

from alih.errors import NeedsOperator
from alih.model.contract import Scope, Table
from alih.model.projection import Assignment, Direction, Projection, ReadColumn
from alih.postgres import positions
from alih.postgres.installation import StreamName
from alih.postgres.positions import Applied
from alih.postgres.session import Connection, only_row

_TABLE = Table("alih", "canary")
_COLUMNS = {"id": "uuid", "sent_at": "timestamp with time zone"}
_WITHIN_S = 10.0


def projection(direction: Direction) -> Projection:
    """The canary as an entity like the contract's: of no tenant, so it crosses in both directions at any time."""
    return Projection(
        entity="@canary",
        direction=direction,
        scope=Scope.REFERENCE,
        reads=_TABLE,
        writes=_TABLE,
        read_columns=tuple(ReadColumn(name, type_, key=name == "id", wire=type_) for name, type_ in _COLUMNS.items()),
        assignments=tuple(
            Assignment(name, type_, f'r."{name}"', frozenset([name]), key=name == "id", sent=f'r."{name}"')
            for name, type_ in _COLUMNS.items()
        ),
        reads_ours=None,
        writes_ours=None,
        tenant_read=None,
        tenant_write=None,
        parent=None,
        links=frozenset(),
    )


async def offer(reads: Connection, name: StreamName) -> None:
    """A publication of its own: the shop's tables are their owner's to offer, this one is alih's. Safe to repeat."""
    _, canary = name.publications
    create = sql.SQL("CREATE PUBLICATION {} FOR TABLE alih.canary").format(sql.Identifier(canary))
    try:
        await reads.execute(create)
    except errors.DuplicateObject:
        return


async def prove(reads: Connection, writes: Connection, applied: Applied, direction: Direction) -> None:
    """Send a row, wait until the stream has passed it, and find it equal on the other side; then send its removal.

    Raises NeedsOperator if it did not arrive, Retryable if the stream does not get there within ten seconds.
    """
    cursor = await reads.execute(
        "INSERT INTO alih.canary (id, sent_at) VALUES (gen_random_uuid(), clock_timestamp()) RETURNING id, sent_at"
    )
    sent = await only_row(cursor)
    try:
        await applied.reached(await positions.cut(reads), _WITHIN_S)
        cursor = await writes.execute("SELECT id, sent_at FROM alih.canary WHERE id = %s", sent[:1])
        if await cursor.fetchone() != sent:
            raise NeedsOperator(
                f"the {direction} stream passed a canary row, and it did not arrive",
                remedy="look for a trigger, rule or right on alih.canary; alih clean sets everything up anew",
            )
    finally:
        await reads.execute("DELETE FROM alih.canary WHERE id = %s", sent[:1])
    await writes.execute(
        "UPDATE alih.stream SET proven_at = clock_timestamp() WHERE direction = %s", (direction.value,)
    )
