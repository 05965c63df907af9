"""A bank as pgbench has it, and wares with large values whose keys move, copied and followed under faults.

Everything that is random comes from a generator that the caller seeds: the load, and which fault strikes where.
"""

import asyncio
import itertools
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest

from alih.model.side import Side
from alih.postgres import planning, positions
from alih.postgres.embedded import binary
from alih.postgres.engine import Engine
from alih.postgres.installation import install_schema
from tests.integration.engine.world import NAME, World, equal_tables
from tests.support.databases import Databases
from tests.support.nursery import Actor, Nursery, nursery
from tests.support.waiting import until

Connection = psycopg.AsyncConnection[tuple[Any, ...]]

ACCOUNTS, TELLERS, BRANCHES, WARES = 2_000, 20, 4, 300

TABLES: LiteralString = """
    CREATE TABLE branches (bid int PRIMARY KEY, bbalance bigint NOT NULL, filler text);
    CREATE TABLE tellers (tid int PRIMARY KEY, bid int NOT NULL, tbalance bigint NOT NULL, filler text);
    CREATE TABLE accounts (aid int PRIMARY KEY, bid int NOT NULL, abalance bigint NOT NULL, filler text);
    CREATE TABLE history (hid bigserial PRIMARY KEY, tid int NOT NULL, bid int NOT NULL, aid int NOT NULL,
        delta bigint NOT NULL, mtime timestamptz NOT NULL DEFAULT now());
    CREATE TABLE wares (id int PRIMARY KEY, name text NOT NULL, price numeric, description text);
    ALTER TABLE wares ALTER description SET STORAGE EXTERNAL"""
_ROWS: LiteralString = """
    INSERT INTO branches SELECT i, 0, 'b' FROM generate_series(1, {branches}) i;
    INSERT INTO tellers SELECT i, 1 + i % {branches}, 0, 't' FROM generate_series(1, {tellers}) i;
    INSERT INTO accounts SELECT i, 1 + i % {branches}, 0, repeat('a', 80) FROM generate_series(1, {accounts}) i;
    INSERT INTO wares SELECT i, 'ware ' || i, i, repeat(md5(i::text), 100) FROM generate_series(1, {wares}) i"""
_FUNCTIONS: LiteralString = """
    CREATE FUNCTION move_ware(former int, new int) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        UPDATE wares SET id = new, price = price + 1 WHERE id = former;
    EXCEPTION WHEN unique_violation THEN
        UPDATE wares SET price = -price WHERE id = former;
    END $$;
    CREATE FUNCTION new_ware(it int) RETURNS void LANGUAGE sql AS $$
        INSERT INTO wares VALUES (it, 'new', 0, repeat(md5(random()::text), 100))
        ON CONFLICT (id) DO UPDATE SET description = excluded.description
    $$"""
_LOAD = """
\\set aid random(1, {accounts})
\\set bid random(1, {branches})
\\set tid random(1, {tellers})
\\set delta random(-5000, 5000)
BEGIN;
UPDATE accounts SET abalance = abalance + :delta WHERE aid = :aid;
UPDATE tellers SET tbalance = tbalance + :delta WHERE tid = :tid;
UPDATE branches SET bbalance = bbalance + :delta WHERE bid = :bid;
INSERT INTO history (tid, bid, aid, delta) VALUES (:tid, :bid, :aid, :delta);
END;
"""
_WARES = """
\\set it random(1, {wares} + 50)
\\set other random(1, {wares} + 50)
\\set how random(1, 10)
\\if :how <= 3
SELECT move_ware(:it, :other);
\\elif :how <= 5
DELETE FROM wares WHERE id = :it;
\\elif :how <= 7
SELECT new_ware(:it);
\\else
UPDATE wares SET price = price + 0.01 WHERE id = :it;
\\endif
"""
_SIZES = {"accounts": ACCOUNTS, "tellers": TELLERS, "branches": BRANCHES, "wares": WARES}
_SUMS: LiteralString = """
    SELECT (SELECT sum(abalance) FROM accounts)::bigint, (SELECT sum(tbalance) FROM tellers)::bigint,
        (SELECT sum(bbalance) FROM branches)::bigint, (SELECT coalesce(sum(delta), 0) FROM history)::bigint,
        (SELECT count(*) FROM history)"""
_SESSIONS: LiteralString = """
    SELECT pid, state, wait_event_type, wait_event, extract(epoch FROM now() - xact_start)::int,
        pg_blocking_pids(pid), left(query, 90)
    FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
        AND application_name <> 'pgbench'"""
_CHUNKS: LiteralString = """
    SELECT c.entity, c.row_key IS NOT NULL, c.state, count(*), max(c.attempt), sum(s.changes)
    FROM alih.chunk c LEFT JOIN (SELECT chunk, count(*) changes FROM alih.spool GROUP BY 1) s ON s.chunk = c.id
    WHERE c.state <> 'done' GROUP BY 1, 2, 3"""
_TABLES: Mapping[str, LiteralString] = {
    "branches": "SELECT * FROM branches ORDER BY bid",
    "tellers": "SELECT * FROM tellers ORDER BY tid",
    "accounts": "SELECT * FROM accounts ORDER BY aid",
    "history": "SELECT * FROM history ORDER BY hid",
    "wares": "SELECT * FROM wares ORDER BY id",
}
_CHUNK_BYTES = 48 << 10


@dataclass(eq=False, slots=True)
class Bank:
    """`nursery` starts the processes."""

    databases: Databases
    directory: Path
    nursery: Nursery
    engine: Engine
    enough: bool = False
    pgbench: asyncio.subprocess.Process | None = None

    @property
    def contract(self) -> str:
        return str(self.directory / "alih.yaml")

    async def follower(self, fault: Sequence[str] | None = None) -> Actor:
        return await self.nursery.start("follow", "forward", self.contract, fault=fault)

    async def worker(self, fault: Sequence[str] | None = None) -> Actor:
        return await self.nursery.start("worker", fault=fault)

    async def control(self, fault: Sequence[str] | None = None) -> Actor:
        return await self.nursery.start("run", "--until-verified", self.contract, fault=fault)

    # --- faults from outside ----------------------------------------------------------------------------------

    async def crash(self, side: Side) -> None:
        """One of the server's processes is killed, so the server ends all others and recovers from its log."""
        async with await self._connect(side) as connection:
            cursor = await connection.execute("SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'")
            row = await cursor.fetchone()
        assert row is not None
        os.kill(row[0], signal.SIGKILL)
        await until(lambda: self._answers(side), within_s=60)

    async def disconnect(self, side: Side) -> None:
        """An administrator ends every session in this side's database but the load's."""
        async with await self._connect(side) as connection:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                " AND pid <> pg_backend_pid() AND application_name <> 'pgbench'"
            )

    async def _answers(self, side: Side) -> bool:
        try:
            async with await self._connect(side) as connection:
                await connection.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    async def _connect(self, side: Side) -> Connection:
        dsn = self.databases.source if side is Side.SOURCE else self.databases.target
        return await psycopg.AsyncConnection.connect(dsn, autocommit=True)

    # --- what is there ----------------------------------------------------------------------------------------

    async def ordinal(self) -> int:
        """How many batches are committed."""
        return int((await self._row(Side.TARGET, "SELECT ordinal FROM alih.stream WHERE direction = 'forward'"))[0])

    async def unfinished(self) -> int:
        return int((await self._row(Side.TARGET, "SELECT count(*) FROM alih.chunk WHERE state <> 'done'"))[0])

    async def sums_at_a_drained_position(self) -> None:
        """Accounts, tellers, branches and history say the same at the target, and nothing is missing in it that had
        been committed before the position."""
        written = (await self._row(Side.SOURCE, _SUMS))[4]
        async with await self._connect(Side.SOURCE) as source, self.engine.applied() as applied:
            await applied.reached(await positions.cut(source), 60)
        *sums, applied_rows = await self._row(Side.TARGET, _SUMS)
        assert len(set(sums)) == 1, sums
        assert applied_rows >= written

    async def equal(self) -> None:
        """Row for row, by alih's verification and by comparing all rows; the load has ended."""
        async with self.engine.verifier() as verifier:
            verdict = await verifier.everything()
        assert (verdict.clean, verdict.findings) == (True, ())
        for name, query in _TABLES.items():
            here, there = [await self._rows(side, query) for side in Side]
            assert here == there, f"{name}: {len(set(here) ^ set(there))} rows differ"
        assert verdict.rows == sum([len(await self._rows(Side.SOURCE, query)) for query in _TABLES.values()])
        assert await self._rows(Side.TARGET, "SELECT * FROM alih.spool") == []

    async def picture(self) -> str:
        """Who does what, for a test that waits in vain: never a value."""
        lines = [f"unfinished chunks {await self.unfinished()}, batches {await self.ordinal()}"]
        for side in Side:
            lines += [f"{side}: {row}" for row in await self._rows(side, _SESSIONS)]
        lines += [f"chunk {row}" for row in await self._rows(Side.TARGET, _CHUNKS)]
        return "\n".join(lines)

    async def _row(self, side: Side, query: LiteralString) -> tuple[Any, ...]:
        (row,) = await self._rows(side, query)
        return row

    async def _rows(self, side: Side, query: LiteralString) -> list[tuple[Any, ...]]:
        async with await self._connect(side) as connection:
            return await (await connection.execute(query)).fetchall()

    # --- the load ---------------------------------------------------------------------------------------------

    async def load(self, seed: int, rate: int = 100) -> None:
        """pgbench until it is enough, begun again when the source has crashed; `rate` is in transactions a second."""
        scripts = [self._script("bank", _LOAD) + "@3", self._script("wares", _WARES) + "@2"]
        for number in itertools.count(seed):
            if self.enough:
                return
            await self._pgbench(
                *("-n", "-c", "3", "-T", "3600", "-R", str(rate), f"--random-seed={number}", "--max-tries=10"),
                *("-f", scripts[0], "-f", scripts[1]),
            )

    def stop_load(self) -> None:
        self.enough = True
        if self.pgbench is not None and self.pgbench.returncode is None:
            self.pgbench.terminate()

    def _script(self, name: str, text: str) -> str:
        file = self.directory / f"{name}.sql"
        file.write_text(text.format(**_SIZES), encoding="utf-8")
        return str(file)

    async def _pgbench(self, *options: str) -> None:
        process = self.pgbench = await asyncio.create_subprocess_exec(
            *(str(binary("pgbench")), *options, self.databases.source),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={"PGAPPNAME": "pgbench"},
        )
        try:
            _, said = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        lost = ("server closed the connection", "could not", "connection to server", "terminating connection")
        assert self.enough or any(words in said.decode() for words in lost), said.decode()


@asynccontextmanager
async def faulted_bank(
    databases: Databases, directory: Path, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int = _CHUNK_BYTES
) -> AsyncIterator[Bank]:
    """The bank with its first rows, cut into many chunks, the forward stream opened, nobody at work yet."""
    async with AsyncExitStack() as stack:
        world = await stack.enter_async_context(equal_tables(databases, directory, TABLES))
        await _furnish(world, directory, monkeypatch, chunk_bytes)
        environment = {
            "ALIH_SOURCE": databases.source,
            "ALIH_TARGET": databases.target,
            "XDG_STATE_HOME": str(directory),
            "PATH": "/usr/bin:/bin",
        }
        yield Bank(
            databases, directory, await stack.enter_async_context(nursery(directory, environment)), world.engine()
        )


async def _furnish(world: World, directory: Path, monkeypatch: pytest.MonkeyPatch, chunk_bytes: int) -> None:
    for statement in (_ROWS.format(**_SIZES), _FUNCTIONS):
        await world.source.execute(statement)
    contract = (directory / "alih.yaml").read_text(encoding="utf-8")
    await install_schema(world.target, NAME, Side.TARGET, contract)
    monkeypatch.setattr(planning, "_CHUNK_BYTES", chunk_bytes)
    await world.target.execute("DELETE FROM alih.chunk")  # cut anew, now that there are rows
    await world.engine().open()
