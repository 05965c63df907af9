"""Rows on their way from one server to the other: exact, no faster than they are taken, and never stuck."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import LiteralString

import psycopg
import pytest
from psycopg import errors, pq, sql

from alih.postgres.forwarding import Connection, forward
from tests.support.databases import Databases
from tests.support.waiting import until

TARGET = sql.Composed([sql.SQL("COPY rows FROM STDIN (FORMAT binary)")])
ENDLESS: LiteralString = "SELECT generate_series(1::bigint, 1000000000), repeat('x', 100)::bytea"
IDLE = pq.TransactionStatus.IDLE
MB = 1 << 20


@dataclass(frozen=True)
class Road:
    reads: Connection
    writes: Connection
    beside: Connection  # to the target, in autocommit
    sizes: list[int] = field(default_factory=list)

    async def forward(self, query: LiteralString) -> int:
        selection = sql.SQL("COPY ({}) TO STDOUT (FORMAT binary)").format(sql.SQL(query))
        return await forward(self.reads, self.writes, selection, TARGET, self._paced)

    async def _paced(self, size: int) -> None:
        self.sizes.append(size)

    async def waits(self, connection: Connection, event: str) -> bool:
        """Whether the server's end of `connection` waits for that."""
        async with await psycopg.AsyncConnection.connect(connection.info.dsn) as looking:
            cursor = await looking.execute(
                "SELECT wait_event FROM pg_stat_activity WHERE pid = %s", (connection.info.backend_pid,)
            )
            return await cursor.fetchone() == (event,)

    async def usable(self) -> None:
        """Both connections can go on, and nothing was written."""
        for connection in (self.reads, self.writes):
            await connection.rollback()
            assert connection.info.transaction_status == IDLE
        assert await (await self.writes.execute("SELECT count(*) FROM rows WHERE n <> 7777")).fetchone() == (0,)


@pytest.fixture
async def road(databases: Databases) -> AsyncIterator[Road]:
    async with (
        await psycopg.AsyncConnection.connect(databases.source) as reads,
        await psycopg.AsyncConnection.connect(databases.target) as writes,
        await psycopg.AsyncConnection.connect(databases.target, autocommit=True) as beside,
    ):
        await beside.execute("CREATE TABLE rows (n bigint UNIQUE, value bytea)")
        yield Road(reads, writes, beside)


@pytest.mark.anyio
async def test_rows_of_every_size_arrive_as_they_are(road: Road) -> None:
    sizes = [0, 1, 4095, 8150, 8192, 16384, 65535, 131072, 300_001, 10 * MB, 5, 10 * MB, 0]
    await road.reads.execute(
        "CREATE TABLE big AS SELECT n, decode(repeat(lpad(to_hex(n %% 256), 2, '0'), size), 'hex') AS value"
        " FROM unnest(%s::int[]) WITH ORDINALITY AS u(size, n)",
        (sizes,),
    )
    await road.reads.execute("INSERT INTO big VALUES (1000, NULL), (1001, NULL)")
    await road.reads.execute("INSERT INTO big SELECT n, int8send(n) FROM generate_series(2001, 52000) n")
    assert await road.forward("SELECT * FROM big") == len(sizes) + 50_002
    digest: LiteralString = "SELECT n, length(value), md5(value) FROM {} ORDER BY n"
    there = await (await road.writes.execute(digest.format("rows"))).fetchall()
    assert there == await (await road.reads.execute(digest.format("big"))).fetchall()
    assert sum(road.sizes) > 20 * MB


@pytest.mark.anyio
async def test_no_rows_are_none(road: Road) -> None:
    assert await road.forward("SELECT 1::bigint, ''::bytea WHERE false") == 0
    await road.usable()


@pytest.mark.anyio
async def test_what_the_source_fails_with_is_raised(road: Road) -> None:
    with pytest.raises(errors.DivisionByZero):
        await road.forward("SELECT 1000000 / (999 - n) + n, ''::bytea FROM generate_series(1::bigint, 1000) n")
    await road.usable()


@pytest.mark.anyio
async def test_what_the_target_refuses_is_raised_before_the_rest_is_sent(road: Road) -> None:
    await road.beside.execute("INSERT INTO rows VALUES (7777, '')")
    async with asyncio.timeout(30):  # the rows never end
        with pytest.raises(errors.UniqueViolation):
            await road.forward(ENDLESS)
    assert sum(road.sizes) < 20 * MB
    await road.usable()


@pytest.mark.anyio
@pytest.mark.parametrize("side", ["reads", "writes"])
async def test_a_lost_connection_ends_it(road: Road, side: str) -> None:
    lost: Connection = getattr(road, side)
    pid = lost.info.backend_pid

    async def cut() -> None:
        await until(lambda: len(road.sizes) > 0)
        async with await psycopg.AsyncConnection.connect(lost.info.dsn, autocommit=True) as killer:
            await killer.execute("SELECT pg_terminate_backend(%s)", (pid,))

    async def both() -> None:
        async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
            tasks.create_task(cut())
            tasks.create_task(road.forward(ENDLESS))

    with pytest.raises(ExceptionGroup) as ended:
        await both()
    assert isinstance(ended.value.exceptions[0], psycopg.OperationalError)
    await (road.writes if side == "reads" else road.reads).rollback()


@pytest.mark.anyio
async def test_a_target_that_notices_much_is_no_target_that_fails(road: Road) -> None:
    await road.beside.execute(
        "CREATE FUNCTION noticed() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN RAISE NOTICE ''a row %'', repeat(''y'', 30); RETURN NEW; END'"
    )
    await road.beside.execute("CREATE TRIGGER t BEFORE INSERT ON rows FOR EACH ROW EXECUTE FUNCTION noticed()")
    assert await road.forward("SELECT n, repeat('x', 50000)::bytea FROM generate_series(1::bigint, 60) n") == 60


@pytest.mark.anyio
async def test_it_sends_no_faster_than_the_target_takes_and_ends_when_cancelled(road: Road) -> None:
    await road.beside.execute(
        "CREATE FUNCTION waits() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN PERFORM pg_advisory_xact_lock(1); RETURN NEW; END'"
    )
    await road.beside.execute("CREATE TRIGGER t BEFORE INSERT ON rows FOR EACH ROW EXECUTE FUNCTION waits()")
    await road.beside.execute("SELECT pg_advisory_lock(1)")
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        forwarding = tasks.create_task(road.forward(ENDLESS))
        await until(lambda: road.waits(road.reads, "ClientWrite"))
        assert sum(road.sizes) < 2 * MB
        forwarding.cancel()
    assert forwarding.cancelled()
    await road.usable()
