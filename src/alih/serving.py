"""`alih serve`: the whole road of a migration with tenants: streams, gate, adapter, gateway, conductor.

They share one task group: when one of them fails, the others are ended and the first cause is what is said. Envoy
drains before the gate behind it closes, so that no request is cut off by a planned end.
"""

import asyncio
import socket
import sys
import time
from collections.abc import Collection
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path

from alih import app, keeping, proving
from alih.app import Migration
from alih.conductor import Conductor, Routing
from alih.config import Environment
from alih.errors import NeedsOperator, Refused, Retryable
from alih.gateway.bootstrap import Addresses, bootstrap
from alih.gateway.envoy import Envoy
from alih.gateway.gate import Gate, Limits
from alih.gateway.routes import IdForm
from alih.model.contract import Gateway
from alih.model.finding import Verdict
from alih.model.projection import Direction
from alih.model.side import Side
from alih.postgres import control, positions
from alih.postgres.control import Control
from alih.postgres.failures import named
from alih.postgres.line import Line
from alih.postgres.owners import ReadBarrier, side_of
from alih.postgres.session import Connection, connect
from alih.process import child
from alih.running import Say, follow_forever

_FOLLOWING_WITHIN_S = 60.0
_HOLDS_EVERY_S = 0.5
_LEAD_LOOK_S = 1.0
_ADAPTER_LOOKS, _ADAPTER_LOOK_S = 600, 0.05  # half a minute


class NoProbe:
    """Named points of the code outside tests: nothing happens there."""

    async def reached(self, point: str) -> None:
        del point


async def serve(path: Path, environment: Environment, say: Say) -> None:
    """Bring every tenant to *verified*, then obey commands, until cancelled."""
    async with app.opened(path, environment) as migration, AsyncExitStack() as stack:
        gateway = _gateway(migration)
        await app.install(migration)
        control = await _control(migration, stack)
        await control.install()
        lead = await _lead(migration, stack)
        await keeping.install(migration, environment, await app.tenants(migration))
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_keep_lead(lead))
            for direction in Direction:
                tasks.create_task(follow_forever(migration, direction, path, environment))
            await _streams_follow(migration)
            conductor = await _conductor(migration, gateway, control, path, environment, stack, tasks)
            verdict = await conductor.prepare()
            say(_ready(verdict, len(conductor.tenants)))
            await conductor.obey()


def _gateway(migration: Migration) -> Gateway:
    if migration.contract.gateway is None or migration.contract.tenant_entity is None:
        raise Refused(
            "the contract has no gateway or no tenant: there is nothing to serve",
            remedy="use alih run to copy, follow and verify; or add `gateway:` and `tenant:`",
        )
    return migration.contract.gateway


def _ready(verdict: Verdict, tenants: int) -> str:
    if verdict.clean:
        return f"ready: {tenants} tenants verified; alih cutover COHORT moves them"
    return (
        f"serving, but {len(verdict.findings)} of {verdict.rows} rows differ and {verdict.undecided} could not be"
        " decided: alih status --json names them; no tenant is cut over that was not found equal"
    )


async def _control(migration: Migration, stack: AsyncExitStack) -> Control:
    return Control(await stack.enter_async_context(Line(migration.dsns["control"], "the control database")))


async def _lead(migration: Migration, stack: AsyncExitStack) -> Connection:
    """A connection that makes this the one conductor while it lives: two would undo each other's cutovers."""
    lead = await stack.enter_async_context(await connect(migration.dsns["control"], "the control database"))
    if not await control.lead(lead):
        raise NeedsOperator(
            "another alih serve runs this migration",
            remedy="stop that one first; if it has just died, its server notices within a moment",
        )
    return lead


async def _keep_lead(lead: Connection) -> None:
    """Raises Retryable when the connection that makes us the one conductor is lost."""
    with named("the control database"):
        while True:
            await lead.execute("SELECT 1")
            await asyncio.sleep(_LEAD_LOOK_S)


async def _conductor(
    migration: Migration,
    gateway: Gateway,
    control: Control,
    path: Path,
    environment: Environment,
    stack: AsyncExitStack,
    tasks: asyncio.TaskGroup,
) -> Conductor:
    owners = await _control(migration, stack)
    barrier = await _barrier(migration, owners, stack)
    adapter = _free_address()
    limits = Limits(request_max_s=gateway.request_max_ms / 1000)
    gate = Gate(
        owner_of=partial(side_of, owners),
        upstreams={Side.SOURCE: gateway.source, Side.TARGET: adapter},
        barrier=barrier.passed,
        limits=limits,
    )
    gate_address = await stack.enter_async_context(gate.serving())
    tasks.create_task(_keep_adapter(adapter, path, environment, migration.contract.name))
    await _listens(adapter)
    kept = keeping.keeping(migration.contract)
    custody = None if kept.notices is None else _free_address()
    await keeping.keep(migration, path, environment, gate_address, custody, tasks)
    addresses = Addresses(adapter=adapter, gate=gate_address, custody=custody)
    envoy = await _envoy(migration, gateway, environment, addresses, stack)
    tasks.create_task(_watch(envoy))
    holds = await _control(migration, stack)
    tasks.create_task(_record_holds(gate, holds))
    return Conductor(
        contract=migration.contract,
        tenants=await app.tenants(migration),
        engines={direction: migration.engine(direction) for direction in Direction},
        control_dsn=migration.dsns["control"],
        gate=gate,
        routes=Routing(owners, envoy, version=time.time_ns() // 1_000_000, notices=kept.notices),
        control=control,
        probe=NoProbe(),
        unexplained=partial(_unexplained, migration),
        losses=partial(app.losses, migration),
    )


async def _unexplained(migration: Migration) -> Collection[str]:
    """The tenants whose money does not reconcile now; none, of a contract that does not describe sales."""
    if migration.contract.sales is None:
        return ()
    async with proving.proofs(migration) as proof:
        return await proof.unexplained()


async def _barrier(migration: Migration, control: Control, stack: AsyncExitStack) -> ReadBarrier:
    target = await stack.enter_async_context(Line(migration.dsns["target"], "the target database"))
    reverse = await stack.enter_async_context(migration.engine(Direction.REVERSE).applied())
    return ReadBarrier(control, target, reverse)


async def _streams_follow(migration: Migration) -> None:
    """Wait until both streams apply: the gate's reads over many tenants need them from the first request on."""
    for direction in Direction:
        engine = migration.engine(direction)
        async with engine.applied() as applied, await engine.connect(direction.reads) as reads:
            await applied.reached(await positions.cut(reads), _FOLLOWING_WITHIN_S)


async def _envoy(
    migration: Migration,
    gateway: Gateway,
    environment: Environment,
    addresses: Addresses,
    stack: AsyncExitStack,
) -> Envoy:
    directory = environment.state_dir(migration.contract.name) / "gateway"
    if not _is_free(gateway.listen):
        raise NeedsOperator(
            f"{gateway.listen} is taken by another program",
            remedy="stop that program, or give `gateway.listen` another port",
        )
    sold = keeping.keeping(migration.contract).sold
    config = bootstrap(gateway, directory=directory, ids=_id_form(migration), sold=sold, addresses=addresses)
    return await stack.enter_async_context(Envoy(directory, config))


def _id_form(migration: Migration) -> IdForm:
    (projection,) = (p for p in migration.projections.forward if p.entity == migration.contract.tenant_entity)
    integers = {"smallint", "integer", "bigint"}
    return IdForm.INTEGER if {c.type for c in projection.read_key} <= integers else IdForm.TEXT


async def _watch(envoy: Envoy) -> None:
    code = await envoy.wait()
    raise NeedsOperator(f"Envoy ended with {code}", remedy="see its log in the state directory, then start alih serve")


async def _keep_adapter(address: str, path: Path, environment: Environment, name: str) -> None:
    log = environment.state_dir(name) / "adapter.log"
    argv = [sys.executable, "-m", "alih", "adapter", str(path), "--listen", address]
    async with child(argv, log=log) as adapter:
        code = await adapter.wait()
    raise NeedsOperator(f"the adapter ended with {code}", remedy=f"its log is {log}; mend the cause, start alih serve")


async def _listens(address: str) -> None:
    """Wait until the adapter answers there: a tenant may be moved to it at any time from then on."""
    host, _, port = address.rpartition(":")
    for _ in range(_ADAPTER_LOOKS):
        with suppress(OSError):
            _, writer = await asyncio.open_connection(host, int(port))
            writer.close()
            return
        await asyncio.sleep(_ADAPTER_LOOK_S)
    raise Retryable("the adapter did not start", remedy="its log is in the state directory; start alih serve again")


async def _record_holds(gate: Gate, control: Control) -> None:
    """Keep the samples; while the control database is away, for later."""
    samples: list[tuple[str, float]] = []
    while True:
        await asyncio.sleep(_HOLDS_EVERY_S)
        samples += gate.take_held_ms()
        if samples:
            with suppress(Retryable):
                await control.record_holds(samples)
                samples = []


def _free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def _is_free(address: str) -> bool:
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, int(port)))
        except OSError:
            return False
        return True
