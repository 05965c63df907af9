"""Which rows of a table may differ: both sides hash all of theirs, at the same time and each in its own snapshot.

One number for the whole table decides whether it is looked at more closely: most tables of a shop stand still. If the
numbers differ, so do those of some buckets, and of these the rows are listed. Neither takes more memory the larger
the table: numbers of buckets and rows come sorted through cursors and are merged, and suspects are handed on in parts.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg
from psycopg import AsyncConnection, sql

from alih.errors import AlihError
from alih.faults import Point, reached
from alih.model.projection import Projection
from alih.postgres.comparison import reading_side, writing_side

Connection = AsyncConnection[tuple[Any, ...]]
Key = tuple[str, ...]
T = TypeVar("T")

_ROWS_A_BUCKET = 32
_FEWEST, _MOST = 1 << 8, 1 << 20  # buckets
_LISTED = 20_000  # buckets whose rows are listed in one scan
_SUSPECTS = 20_000  # handed on at a time
_FETCHED = 5_000


@dataclass(frozen=True, slots=True)
class Suspect:
    """A key whose rows may differ; `read_key` is None while only the writing side is known to have it."""

    write_key: Key
    read_key: Key | None


class Scan:
    """One entity (of these tenants, or of all) on both sides. Both connections are in autocommit."""

    def __init__(
        self, projection: Projection, reads: Connection, writes: Connection, tenants: Sequence[str] | None
    ) -> None:
        self._reads, self._writes = reads, writes
        self._here, self._there = reading_side(projection), writing_side(projection)
        self._tenants = tenants
        self.rows = 0
        """Rows of the reading side, once `suspects` has begun."""

    async def suspects(self) -> AsyncIterator[list[Suspect]]:
        """Every key whose rows differed when they were read, and some that did not, in parts."""
        here, there = await both(
            _only(self._reads, self._here.total(self._tenants)), _only(self._writes, self._there.total(self._tenants))
        )
        self.rows = here[0]
        reached(Point.BUCKETS_HASHED)
        if here == there:
            return
        count = _buckets_of(max(here[0], there[0]))
        unequal = await self._unequal(count)
        for start in range(0, len(unequal), _LISTED):
            async for part in self._listed(unequal[start : start + _LISTED], count):
                yield part

    async def _unequal(self, count: int) -> list[int]:
        """The buckets whose numbers differ."""
        unequal = []
        async with AsyncExitStack() as stack:
            there = await stack.enter_async_context(
                _Sorted(self._writes, self._there.buckets(count, self._tenants), hashed=True)
            )
            here = await stack.enter_async_context(
                _Sorted(self._reads, self._here.buckets(count, self._tenants), hashed=True)
            )
            async for bucket, read, written in _merged(here, there):
                if read != written:
                    unequal.append(bucket)
        return unequal

    async def _listed(self, buckets: Sequence[int], count: int) -> AsyncIterator[list[Suspect]]:
        after: int | None = None
        while True:
            suspects, after = await self._differing(buckets, count, after)
            if suspects:
                yield suspects
            if after is None:
                return

    async def _differing(
        self, buckets: Sequence[int], count: int, after: int | None
    ) -> tuple[list[Suspect], int | None]:
        """Suspects after a place, and up to which place if there may be more.

        The writing side is read first: what it has and the reading side lacks later is then surplus or just deleted,
        and not merely new; the other way round, each new row would have to be searched by the other side's key."""
        suspects: list[Suspect] = []
        async with AsyncExitStack() as stack:
            there = await stack.enter_async_context(
                _Sorted(self._writes, self._there.rows_of(buckets, count, after, self._tenants))
            )
            here = await stack.enter_async_context(
                _Sorted(self._reads, self._here.rows_of(buckets, count, after, self._tenants))
            )
            async for place, read, written in _merged(here, there):
                suspects += _unequal_rows(read, written)
                if len(suspects) >= _SUSPECTS:
                    return suspects, place
        return suspects, None


def _unequal_rows(read: Sequence[tuple[Any, ...]], written: Sequence[tuple[Any, ...]]) -> list[Suspect]:
    """Of the rows at one place: those of different keys may share it."""
    here = {tuple(key): (tuple(own), number) for key, own, number in read}
    there = {tuple(key): number for key, _, number in written}
    return [
        Suspect(key, here[key][0] if key in here else None)
        for key in here.keys() | there.keys()
        if key not in here or here[key][1] != there.get(key)
    ]


def _buckets_of(rows: int) -> int:
    return min(max(1 << (rows // _ROWS_A_BUCKET).bit_length(), _FEWEST), _MOST)


async def both(read: Coroutine[Any, Any, T], written: Coroutine[Any, Any, T]) -> tuple[T, T]:
    """Both at the same time; the first failure is raised by itself."""
    try:
        async with asyncio.TaskGroup() as tasks:
            here, there = tasks.create_task(read), tasks.create_task(written)
    except* (psycopg.Error, AlihError) as failed:
        failure = failed.exceptions[0]
    else:
        return here.result(), there.result()
    raise failure


async def _only(connection: Connection, query: sql.Composed) -> tuple[int, int]:
    cursor = await connection.execute(query)
    ((rows, number),) = await cursor.fetchall()
    return rows, number


class _Sorted:
    """The rows of a query sorted by their first column, read through a cursor while the context is open."""

    def __init__(self, connection: Connection, query: sql.Composed, *, hashed: bool = False) -> None:
        self._connection = connection
        self._query = query
        self._hashed = hashed
        self._stack = AsyncExitStack()
        self._fetched: list[tuple[Any, ...]] = []
        self._next = 0

    async def __aenter__(self) -> "_Sorted":
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._connection.transaction())
            if self._hashed:  # the planner cannot know how few buckets there are, and would sort all rows by them
                await self._connection.execute("SET LOCAL enable_sort = off; SET LOCAL work_mem = '128MB'")
            await self._connection.execute(sql.SQL("DECLARE sorted NO SCROLL CURSOR FOR {}").format(self._query))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *failure: Any) -> bool | None:
        return await self._stack.__aexit__(*failure)

    async def fetch(self) -> None:
        """Have a row at hand, if there is one."""
        if self._next == len(self._fetched):
            cursor = await self._connection.execute(sql.SQL("FETCH {} FROM sorted").format(sql.Literal(_FETCHED)))
            self._fetched, self._next = await cursor.fetchall(), 0

    @property
    def place(self) -> int | None:
        """Of the row at hand; None at the end."""
        return self._fetched[self._next][0] if self._next < len(self._fetched) else None

    async def taken(self, place: int) -> list[tuple[Any, ...]]:
        """All rows at this place, without it."""
        rows = []
        while self.place == place:
            rows.append(self._fetched[self._next][1:])
            self._next += 1
            await self.fetch()
        return rows


async def _merged(
    here: _Sorted, there: _Sorted
) -> AsyncIterator[tuple[int, list[tuple[Any, ...]], list[tuple[Any, ...]]]]:
    """Each place that either side has, with both sides' rows there."""
    await both(here.fetch(), there.fetch())
    while places := [each.place for each in (here, there) if each.place is not None]:
        place = min(places)
        yield place, await here.taken(place), await there.taken(place)
