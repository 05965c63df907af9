"""Wires the parts together: what both the command line and the conductor stand on.

Opening a migration starts the embedded clusters it names, reads both catalogs, checks the contract against them and
compiles it. Nothing is changed in either database until `install`.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
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
from alih.model.side import Side
from alih.postgres import catalog, fence, installation, links, preflight
from alih.postgres.embedded import Cluster, running_cluster
from alih.postgres.engine import Engine
from alih.postgres.preflight import Need
from alih.postgres.session import Connection, connect


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
        if migration.contract.tenant_entity:
            await installation.install_schema(source, migration.contract.name, Side.SOURCE)
        await installation.install_schema(target, migration.contract.name, Side.TARGET, migration.contract.text)
        await links.refresh(source, target, migration.contract.entities)
        if migration.contract.tenant_entity:
            await _install_fence(migration, {Side.SOURCE: source, Side.TARGET: target})
    for direction in migration.directions:
        await migration.engine(direction).open()


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
