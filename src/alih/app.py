"""Wires the parts together: what both the command line and the conductor stand on.

Opening a migration starts the embedded clusters it names, reads both catalogs, checks the contract against them and
compiles it. Nothing is changed in either database until `install`.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from alih import contract as contracts
from alih.config import Environment
from alih.contract import Problem, Projections
from alih.errors import NeedsOperator, Refused
from alih.model.catalog import Catalog
from alih.model.contract import Contract, Endpoint
from alih.model.projection import Direction, Projection
from alih.model.rehearsal import Obstacle, Rehearsed
from alih.model.side import Side
from alih.postgres import catalog, fence, installation, links, preflight, rehearsal, sequences
from alih.postgres.embedded import Cluster, running_cluster
from alih.postgres.engine import Engine
from alih.postgres.preflight import Need
from alih.postgres.session import Connection, connect, only_row


@dataclass(frozen=True, slots=True)
class Migration:
    """An opened migration: its contract, checked and compiled, and where its databases are."""

    contract: Contract
    catalogs: Mapping[Side, Catalog]
    projections: Projections
    dsns: Mapping[str, str] = field(repr=False)  # source, target, control

    def engine(self, direction: Direction) -> Engine:
        projections = self.projections.forward if direction is Direction.FORWARD else self.projections.reverse
        limits = self.contract.copying
        return Engine(self.contract.name, direction, projections, self.dsns["source"], self.dsns["target"], limits)

    @property
    def directions(self) -> Sequence[Direction]:
        """Without tenants nothing flips, so nothing has to come back."""
        return tuple(Direction) if self.contract.tenant_entity else (Direction.FORWARD,)

    async def connect(self, side: Side) -> Connection:
        return await connect(self.dsns[side], f"the {side} database")

    @property
    def rehearsed(self) -> Sequence[Rehearsed]:
        return contracts.rehearse(self.contract, self.catalogs[Side.SOURCE], self.catalogs[Side.TARGET])

    def reading(self, side: Side) -> Sequence[Projection]:
        """The projections that read this side."""
        return self.projections.forward if side is Side.SOURCE else self.projections.reverse


@asynccontextmanager
async def opened(path: Path, environment: Environment) -> AsyncIterator[Migration]:
    """The migration of the contract at `path`. Raises Refused with every problem of the contract at once."""
    contract = contracts.load(path, environment.variables)
    async with AsyncExitStack() as stack:
        yield await _compiled(contract, await databases(contract, environment, stack))


@asynccontextmanager
async def joined(environment: Environment) -> AsyncIterator[Migration]:
    """The migration that is installed in the target, for a process that has only the two DSNs, as ALIH_SOURCE and
    ALIH_TARGET. Raises NeedsOperator if there is none."""
    dsns = {"source": environment.variable("ALIH_SOURCE"), "target": environment.variable("ALIH_TARGET")}
    async with await connect(dsns["target"], "the target database") as target:
        text = await installation.installed_contract(target)
    yield await _compiled(contracts.load_engine(text, environment.variables), dsns)


async def _compiled(contract: Contract, dsns: Mapping[str, str]) -> Migration:
    catalogs = {side: await _catalog(dsns[side], side) for side in Side}
    if problems := contracts.check(contract, catalogs[Side.SOURCE], catalogs[Side.TARGET]):
        raise refused(problems)
    projections = contracts.compile(contract, catalogs[Side.SOURCE], catalogs[Side.TARGET])
    return Migration(contract, catalogs, projections, dsns)


async def databases(contract: Contract, environment: Environment, stack: AsyncExitStack) -> Mapping[str, str]:
    """The DSNs of source, target and, where tenants are to be cut over, control; embedded clusters are started, and
    stopped with `stack`."""
    endpoints = {"source": contract.source, "target": contract.target}
    if contract.tenant_entity:
        endpoints["control"] = contract.control
    return {name: await _dsn(endpoint, name, contract, environment, stack) for name, endpoint in endpoints.items()}


def refused(problems: Sequence[Problem]) -> Refused:
    return Refused("\n".join(map(str, problems)), remedy=f"correct the contract ({len(problems)} problems), run again")


async def _dsn(
    endpoint: Endpoint, name: str, contract: Contract, environment: Environment, stack: AsyncExitStack
) -> str:
    if endpoint.dsn is not None:
        return endpoint.dsn
    directory = environment.state_dir(contract.name) / name
    if running := await running_cluster(directory):
        return running  # another alih, a parent perhaps, has started it and will stop it
    return (await stack.enter_async_context(Cluster(directory, endpoint.version))).dsn()


async def _catalog(dsn: str, side: Side) -> Catalog:
    async with await connect(dsn, f"the {side} database") as connection:
        return await catalog.read(connection)


async def needs(migration: Migration, side: Side) -> list[Need]:
    """What a DBA has to run or change on this side before alih can start."""
    both = [*migration.projections.forward, *migration.projections.reverse]
    used = both if migration.contract.tenant_entity else migration.projections.forward
    async with await migration.connect(side) as connection:
        found = await preflight.missing(connection, migration.contract, used, side)
        if migration.contract.tenant_entity and not await fence.may_install(connection, migration.reading(side)):
            role = connection.info.user
            script = fence.script(migration.reading(side), migration.contract.tenant_entity, role)
            found.append(Need(script, "only the owner of the tables can put the fence on them", blocking=True))
        if migration.contract.tenant_entity:
            found += await _of_sequences(migration, connection, side)
    return found


async def _of_sequences(migration: Migration, connection: Connection, side: Side) -> list[Need]:
    """The rights that are missing on this side; when the source has given its own, the target is asked for room."""
    paired = sequences.pairs([*migration.projections.forward, *migration.projections.reverse])
    found = await preflight.sequences(connection, paired, side)
    if side is Side.TARGET and not found:
        async with await migration.connect(Side.SOURCE) as source:
            if not await preflight.sequences(source, paired, Side.SOURCE):
                found = await preflight.room(source, connection, paired)
    return found


async def install(migration: Migration) -> None:
    """alih's tables, links and fence in both databases, and the streams' slots; safe to repeat.

    The reverse stream's slot exists before the first tenant is tracked: making one waits for every open writer."""
    for side in Side:
        if blocking := [need for need in await needs(migration, side) if need.blocking]:
            raise NeedsOperator(
                f"the {side} database is not ready: " + "; ".join(need.why for need in blocking),
                remedy=f"let its DBA run what `alih check --sql {side}` prints",
            )
    async with await migration.connect(Side.SOURCE) as source, await migration.connect(Side.TARGET) as target:
        if _writes_source(migration.contract):
            await installation.install_schema(source, migration.contract.name, Side.SOURCE)
        await installation.install_schema(target, migration.contract.name, Side.TARGET, migration.contract.text)
        await links.refresh(source, target, migration.contract.entities)
        await _rehearse(migration, source, target)
        if migration.contract.tenant_entity:
            await _install_fence(migration, {Side.SOURCE: source, Side.TARGET: target})
            both = [*migration.projections.forward, *migration.projections.reverse]
            await sequences.keep_apart(source, target, sequences.pairs(both))
    for direction in migration.directions:
        await migration.engine(direction).open()


def _writes_source(contract: Contract) -> bool:
    """Whether alih needs tables of its own at the source: for the fence and the way back, or for links."""
    return contract.tenant_entity is not None or any(e.link for e in contract.entities)


async def _rehearse(migration: Migration, source: Connection, target: Connection) -> None:
    """Before the first row crosses. Raises NeedsOperator with all that stands in the way."""
    cursor = await target.execute("SELECT FROM alih.stream")
    if await cursor.fetchone() is None and (found := await rehearsal.obstacles(source, target, migration.rehearsed)):
        raise NeedsOperator(
            "not every row would cross and come back:\n" + "\n".join(map(str, found)),
            remedy="correct each; alih check --data asks again",
        )


async def obstacles(migration: Migration) -> list[Obstacle]:
    """What stands in the way of the rows that are there. Nothing is changed in either database: what alih would
    install for it is rolled back."""
    async with await migration.connect(Side.SOURCE) as source, await migration.connect(Side.TARGET) as target:
        linked = await links.read(target, migration.contract.entities)
        (installed,) = await only_row(await source.execute("SELECT to_regclass('alih.link') IS NOT NULL"))
        if installed or not linked:
            return await rehearsal.obstacles(source, target, migration.rehearsed)
        async with source.transaction(force_rollback=True):
            await installation.install_schema(source, migration.contract.name, Side.SOURCE)
            for entity, pairs in linked.items():
                await links.keep(source, entity, pairs)
            return await rehearsal.obstacles(source, target, migration.rehearsed)


async def losses(migration: Migration, tenants: Sequence[str]) -> list[Obstacle]:
    """What these tenants' rows would lose if they came back."""
    async with await migration.connect(Side.SOURCE) as source:
        return await rehearsal.losses(source, migration.rehearsed, tenants)


def linked(contract: Contract, target: Connection) -> Callable[[str, str, Direction], Awaitable[str | None]]:
    """Gives an entity's id on the other side, by its link or its offset; None if there is none."""

    async def one(entity: str, identifier: str, direction: Direction) -> str | None:
        if contract.entity(entity).offset is not None:
            return contract.entity(entity).shifted(identifier, back=direction is Direction.REVERSE)
        return await links.one(target, entity, identifier, direction)

    return one


async def _install_fence(migration: Migration, connections: Mapping[Side, Connection]) -> None:
    """Owner rows first: a trigger that finds none would refuse the shop's writes."""
    for side, connection in connections.items():
        await fence.register(connection, await tenants(migration))
        await fence.put_up(connection, migration.reading(side), migration.contract.tenant_entity or "")
    for connection in connections.values():  # shops that opened before the source's trigger stood
        await fence.register(connection, await tenants(migration))


async def tenants(migration: Migration) -> list[str]:
    """Every tenant of the source, in the order of their keys."""
    (projection,) = (p for p in migration.projections.forward if p.entity == migration.contract.tenant_entity)
    async with await migration.connect(Side.SOURCE) as source:
        return await fence.tenants(source, projection)


async def clean(migration_name: str, dsns: Mapping[Side, str]) -> dict[Side, list[str]]:
    """Remove every trace from both databases; gives what only the tables' owner can remove, as statements."""
    left = {}
    for side, dsn in dsns.items():
        async with await connect(dsn, f"the {side} database") as connection:
            left[side] = await installation.remove(connection, migration_name)
    return left
