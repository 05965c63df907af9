"""Where a bench takes place: two embedded servers, durable as a real shop's are, and in them tables of one kind.

Two servers on one machine share its processors and its disk: a figure of one of these worlds is worth something
beside another figure of the same run, and nothing by itself.
"""

import platform
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from alih import __version__, app
from alih.app import Migration
from alih.bench import tables
from alih.config import Environment
from alih.model.projection import Direction
from alih.model.side import Side
from alih.postgres.embedded import Cluster
from alih.postgres.session import connect, only_row
from alih.process import Child, child


@dataclass(frozen=True, slots=True, kw_only=True)
class Servers:
    """Two running clusters, and a directory that goes with them."""

    source: Cluster
    target: Cluster
    directory: Path

    async def versions(self) -> dict[str, str]:
        """What took part."""
        async with await connect(self.source.dsn(), "the source server") as connection:
            (postgres,) = await only_row(await connection.execute("SHOW server_version"))
        return {"alih": __version__, "postgres": postgres, "python": platform.python_version()}


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Tables of one kind, filled on the source and empty on the target, and the migration between them.

    `environment` is what a process needs that opens `contract` for itself."""

    servers: Servers
    kind: str
    rows: int
    contract: Path
    environment: Environment = field(repr=False)
    migration: Migration

    def dsn(self, side: Side) -> str:
        return self.migration.dsns[side]

    async def checkpoint(self) -> None:
        """Have both servers write out what they owe, so that the next run does not pay for the one before."""
        for side in Side:
            async with await self.migration.connect(side) as connection:
                await connection.execute("CHECKPOINT")

    @asynccontextmanager
    async def installed(self) -> AsyncIterator[None]:
        """alih's own tables, publication and slot; gone again afterwards, with every trace."""
        await app.install(self.migration)
        try:
            yield
        finally:
            await app.clean(self.migration.contract.name, {side: self.dsn(side) for side in Side})

    @asynccontextmanager
    async def following(self) -> AsyncIterator[Child]:
        """A follower of the forward stream in a process of its own, as `alih run` has it."""
        argv = [sys.executable, "-m", "alih", "follow", Direction.FORWARD.value, str(self.contract)]
        log = self.servers.directory / "follow.log"
        async with child(argv, log=log, env=self.environment.variables) as follower:
            yield follower


@asynccontextmanager
async def servers(version: int = 18) -> AsyncIterator[Servers]:
    """Two clusters with settings of a real server (fsync and synchronous commits on) in a temporary directory."""
    with _directory() as directory:
        async with Cluster(directory / "source", version) as source, Cluster(directory / "target", version) as target:
            yield Servers(source=source, target=target, directory=directory)


@contextmanager
def _directory() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="alih-bench-") as name:
        yield Path(name)


@asynccontextmanager
async def world(servers: Servers, kind: str, rows: int) -> AsyncIterator[World]:
    """A fresh database on each server with the tables of `kind`; `rows` of them on the source."""
    database = f"bench_{kind}"
    for cluster in (servers.source, servers.target):
        await cluster.create_database(database)
    dsns = {"ALIH_SOURCE": servers.source.dsn(database), "ALIH_TARGET": servers.target.dsn(database)}
    variables = dict(Environment.of_process().variables) | dsns | {"XDG_STATE_HOME": str(servers.directory / "state")}
    environment = Environment(variables=variables)
    contract = tables.contract(kind, servers.directory)
    try:
        await _fill(dsns["ALIH_SOURCE"], dsns["ALIH_TARGET"], kind, rows)
        async with app.opened(contract, environment) as migration:
            yield World(
                servers=servers,
                kind=kind,
                rows=rows,
                contract=contract,
                environment=environment,
                migration=migration,
            )
    finally:
        for cluster in (servers.source, servers.target):
            await cluster.drop_database(database)


async def _fill(source: str, target: str, kind: str, rows: int) -> None:
    async with await connect(target, "the target of the bench") as there:
        await there.execute(tables.statement(kind, "target"))
    async with await connect(source, "the source of the bench") as here:
        await here.execute(tables.statement(kind, "source"))
        await here.execute(tables.statement(kind, "rows"), {"first": 1, "last": rows})
        await here.execute("VACUUM (ANALYZE)")  # the first reader would otherwise pay for marking rows as committed
