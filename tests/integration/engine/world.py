"""Two databases with equal tables, an engine between them, and the places where a copy can be held."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, LiteralString

import psycopg
import pytest

from alih import contract as contracts
from alih.contract import Projections
from alih.model.change import Lsn
from alih.model.finding import Verdict
from alih.model.projection import Direction
from alih.model.side import Side
from alih.postgres import catalog, copying, positions
from alih.postgres.engine import Engine
from alih.postgres.installation import install_schema
from tests.support.databases import Databases

NAME = "race"
Connection = psycopg.AsyncConnection[tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class World:
    """Connections to both sides as the superuser, in autocommit, and what the contract compiles to."""

    source: Connection
    target: Connection
    projections: Projections
    databases: Databases

    def engine(self, direction: Direction = Direction.FORWARD) -> Engine:
        projections = self.projections.forward if direction is Direction.FORWARD else self.projections.reverse
        return Engine(NAME, direction, projections, self.databases.source, self.databases.target)

    async def caught_up(self, direction: Direction = Direction.FORWARD) -> Lsn:
        """Wait until all that the reading side has now is applied."""
        position = await positions.cut(self.source if direction is Direction.FORWARD else self.target)
        async with self.engine(direction).applied() as applied:
            await applied.reached(position, 20)
        return position

    async def both(self, query: LiteralString) -> Sequence[tuple[Any, ...]]:
        """The rows of an ordered query, which must be the same on both sides."""
        here, there = await rows(self.source, query), await rows(self.target, query)
        assert there == here
        return here

    async def verified(self) -> Verdict:
        async with self.engine().verifier() as verifier:
            return await verifier.everything()

    async def stopped(self) -> str:
        """What the forward stream stopped for."""
        ((reason,),) = await rows(self.target, "SELECT stopped FROM alih.stream WHERE direction = 'forward'")
        return str(reason)


@asynccontextmanager
async def equal_tables(
    databases: Databases,
    directory: Path,
    tables: LiteralString,
    tenants: Mapping[str, str] | None = None,
    others: LiteralString | None = None,
) -> AsyncIterator[World]:
    """The same tables on both sides (`others`: the target's, if it makes them otherwise), a drafted contract for them,
    alih's own tables, and an opened forward stream.

    `tenants` are the entities that belong to tenants, by the column that says to which; the tenants' own is first."""
    async with connected(databases.source) as source, connected(databases.target) as target:
        await source.execute(tables)
        await target.execute(others or tables)
        here, there = await catalog.read(source), await catalog.read(target)
        text = contracts.draft(NAME, here, there)
        for entity, column in (tenants or {}).items():
            text = re.sub(rf"(  {entity}:\n(?:    .*\n)*?    )scope: shared.*", rf"\1tenant: {column}", text)
        if tenants:
            text = text.replace("entities:", f"tenant: {{entity: {next(iter(tenants))}, key: id}}\nentities:", 1)
        async with drafted(databases, directory, text, source, target) as world:
            yield world


@asynccontextmanager
async def drafted(
    databases: Databases, directory: Path, text: str, source: Connection, target: Connection
) -> AsyncIterator[World]:
    """The world of a contract whose tables are there."""
    file = directory / "alih.yaml"
    file.write_text(text, encoding="utf-8")
    contract = contracts.load(file, {"ALIH_SOURCE": databases.source, "ALIH_TARGET": databases.target})
    here, there = await catalog.read(source), await catalog.read(target)
    assert contracts.check(contract, here, there) == []
    await install_schema(source, NAME, Side.SOURCE)
    await install_schema(target, NAME, Side.TARGET, text)
    world = World(source, target, contracts.compile(contract, here, there), databases)
    await world.engine().open()
    yield world


@asynccontextmanager
async def connected(dsn: str) -> AsyncIterator[Connection]:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        yield connection


@asynccontextmanager
async def following(engine: Engine) -> AsyncIterator[None]:
    """A follower that runs beside the test."""
    async with asyncio.TaskGroup() as tasks:
        follower = tasks.create_task(engine.follow())
        yield
        follower.cancel()


async def rows(connection: Connection, query: LiteralString) -> Sequence[tuple[Any, ...]]:
    return await (await connection.execute(query)).fetchall()


@dataclass(frozen=True, slots=True)
class Held:
    """A place in the copy: `there` once it has come, and it goes on after `go`."""

    there: asyncio.Event = field(default_factory=asyncio.Event)
    go: asyncio.Event = field(default_factory=asyncio.Event)


def hold_before(monkeypatch: pytest.MonkeyPatch, step: str) -> Held:
    """Hold every copy before one of its steps."""
    held = Held()
    original: Callable[..., Awaitable[Any]] = getattr(copying.ChunkCopy, step)

    async def waiting(copy: copying.ChunkCopy, *arguments: Any, **named: Any) -> Any:
        held.there.set()
        await held.go.wait()
        return await original(copy, *arguments, **named)

    monkeypatch.setattr(copying.ChunkCopy, step, waiting)
    return held
