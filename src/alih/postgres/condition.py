"""A look at the reading side before its log is read: is it still the server, the slot and the publication of the
stored position? What is not, has a name and stops the stream; nothing is ever made anew silently.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from psycopg import AsyncConnection
from psycopg.rows import dict_row

from alih.errors import NeedsOperator, Retryable
from alih.model.change import Lsn
from alih.model.projection import Direction
from alih.model.stream import Identity, Seen, Stored, StreamState, state_of
from alih.postgres.sql import query

_ANEW = "changes may be missing: alih clean, then start the copy anew"
_SAYS: Final[Mapping[StreamState, str]] = MappingProxyType(
    {
        StreamState.SLOT_LOST: "the slot of the {} stream is gone, was moved on by somebody else, or lost its log",
        StreamState.FAILED_OVER: "the {side} is another server, or was promoted, since its position was stored",
        StreamState.PUBLICATION_GONE: "the publication of the {} stream is gone, or was made anew",
    }
)


class Halt(NeedsOperator):
    """A stream cannot go on, and the state that it is in has a name."""

    def __init__(self, state: StreamState, direction: Direction) -> None:
        super().__init__(_SAYS[state].format(direction, side=direction.reads), remedy=_ANEW)
        self.state = state


async def look(reads: AsyncConnection[Any], slot: str, publication: str) -> tuple[Seen, Mapping[str, Any]]:
    """What the reading side shows of the stream, and the budget of its slot as `alih status` shows it.

    Raises Retryable if the server is a standby: it may be about to be promoted, or the primary about to come back.
    """
    async with reads.cursor(row_factory=dict_row) as cursor:
        await cursor.execute(query("condition"), {"slot": slot, "publication": publication})
        (row,) = await cursor.fetchall()
    if row.pop("standby"):
        raise Retryable(
            "the server whose log is followed is a standby", remedy="name the primary; if it fails over, wait"
        )
    confirmed = row.pop("confirmed")
    seen = Seen(
        identity=Identity(row.pop("system_id"), row.pop("timeline")),
        wal_status=row["wal_status"],
        confirmed=None if confirmed is None else Lsn.parse(confirmed),
        publication=row.pop("publication"),
    )
    return seen, row


async def check(
    reads: AsyncConnection[Any], direction: Direction, slot: str, publication: str, stored: Stored, streamed: Identity
) -> None:
    """Raises Halt unless the log can be read on from the stored position; `streamed` is the server that would send
    it, which has to be the one looked at."""
    seen, _ = await look(reads, slot, publication)
    state = state_of(stored, seen)
    if streamed != stored.identity:
        state = StreamState.FAILED_OVER
    if state is not StreamState.FOLLOWING:
        raise Halt(state, direction)
