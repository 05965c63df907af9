"""What each command does and what it prints: the verbs behind the command line."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from alih import app, following, keeping, running, serving
from alih import contract as contracts
from alih.app import Migration
from alih.config import Environment
from alih.errors import AlihError, Corrupt, NeedsOperator, Refused, Retryable
from alih.gateway.adapter import adapter_app
from alih.gateway.wire import listening
from alih.model.catalog import Catalog
from alih.model.projection import Direction
from alih.model.side import Side
from alih.postgres import catalog, chunks
from alih.postgres import status as statuses
from alih.postgres.control import Control
from alih.postgres.line import Line
from alih.postgres.session import connect
from alih.running import Say

_COMMAND_WITHIN_S = 3600.0
_ADAPTER_GRACE_S = 10.0


async def init(name: str, source: str, target: str, path: Path, say: Say) -> None:
    """Write a draft of the contract; a file that is there stays."""
    if path.exists():  # noqa: ASYNC240 - a small file, before anything runs
        raise Refused(f"{path} is there already", remedy="name another file with --output, or remove it")
    here, there = await _catalog(source, Side.SOURCE), await _catalog(target, Side.TARGET)
    if not there.tables:
        say("the target has no tables: drafted as if it had the source's, which alih run --create-target makes")
        there = replace(there, tables=here.tables)
    path.write_text(  # noqa: ASYNC240 - a small file
        contracts.draft(name, here, there), encoding="utf-8"
    )
    say(f"wrote {path}: read it, decide what is marked `# decide:`, then run alih check {path}")


async def _catalog(dsn: str, side: Side) -> Catalog:
    async with await connect(dsn, f"the {side} database") as connection:
        return await catalog.read(connection)


async def check(path: Path, environment: Environment, sql: Side | None, say: Say, *, data: bool = False) -> None:
    """Print lineage and needs; with `data` also what stands in the way of the rows that are there. Raises
    NeedsOperator if something that blocks is missing or stands in the way."""
    async with app.opened(path, environment) as migration:
        if sql is not None:
            for need in await app.needs(migration, sql):
                say(f"-- {need.why}")
                say(f"{need.sql};" if need.sql else "-- (no statement: see above)")
            return
        for line in _lineage(migration):
            say(line)
        blocking = 0
        for side in Side:
            for need in await app.needs(migration, side):
                blocking += need.blocking
                say(f"{side}: {'missing' if need.blocking else 'note'}: {need.why}")
        found = await app.obstacles(migration) if data and not blocking else []
        for obstacle in found:
            say(str(obstacle))
    if blocking:
        raise NeedsOperator(
            f"{blocking} things are missing", remedy="let each side's DBA run what alih check --sql SIDE prints"
        )
    if found:
        raise NeedsOperator(f"{len(found)} things stand in the rows' way", remedy="correct each, then run this again")
    say("the contract holds on both databases, and nothing is missing")
    if data:
        say("every row that is there would cross, and come back as it is")


def _lineage(migration: Migration) -> Iterator[str]:
    catalogs = migration.catalogs
    for row in contracts.lineage(migration.contract, catalogs[Side.SOURCE], catalogs[Side.TARGET]):
        made_of = ", ".join(row.source_columns) or "a constant"
        personal = f" [{row.personal_data} personal data]" if row.personal_data else ""
        yield f"{row.entity}.{row.target_column} ← {made_of}{personal}"
    for entity in migration.contract.entities:
        for column, reason in entity.not_moved.items():
            yield f"{entity.name}: {column} stays: {reason}"
        for column, reason in entity.keep.items():
            yield f"{entity.name}: {column} keeps its value at the source: {reason}"


async def run(path: Path, environment: Environment, say: Say, *, create_target: bool, until_verified: bool) -> None:
    """Copy, follow, verify. Raises NeedsOperator if the verdict is not clean."""
    verdict = await running.run(path, environment, create_target=create_target, until_verified=until_verified, say=say)
    if not verdict.clean:
        raise NeedsOperator(
            f"{len(verdict.findings)} rows differ, {verdict.undecided} could not be decided",
            remedy="alih status --json lists their keys and likely causes",
        )


async def serve(path: Path, environment: Environment, say: Say) -> None:
    await serving.serve(path, environment, say)


async def follow(direction: Direction, path: Path, environment: Environment) -> None:
    async with app.opened(path, environment) as migration:
        await following.follow(migration, direction)


async def worker(environment: Environment, say: Say) -> None:
    """Copy chunks beside whoever else does, until all are done."""
    async with app.joined(environment) as migration:
        say(f"copied {await migration.engine(Direction.FORWARD).copy(workers=1)} chunks; all are done")


async def pause(path: Path, environment: Environment, say: Say, *, paused: bool) -> None:
    """Have all workers begin no new chunk, or go on."""
    contract = contracts.load(path, environment.variables)
    async with AsyncExitStack() as stack:
        dsns = await app.databases(contract, environment, stack)
        async with await connect(dsns["target"], "the target database") as target:
            await chunks.pause(target, Direction.FORWARD, paused=paused)
    say("paused: chunks that are being copied are finished, no other is begun" if paused else "resumed")


async def adapter(path: Path, environment: Environment, listen: str) -> None:
    """Serve the adapter until cancelled."""
    async with app.opened(path, environment) as migration, await migration.connect(Side.TARGET) as target:
        linked = app.linked(migration.contract, target)
        host, _, port = listen.rpartition(":")
        async with listening(adapter_app(migration.contract, linked), host, int(port), grace_s=_ADAPTER_GRACE_S):
            await asyncio.Event().wait()


async def custody(path: Path, environment: Environment, listen: str, gate: str) -> None:
    await keeping.serve_custody(path, environment, listen, gate)


async def cutover(cohort: str, path: Path, environment: Environment) -> dict[str, Any]:
    """Ask alih serve to move a cohort and wait for its answer; `exit_code` in the answer is 75 when tenants had to
    stay where they are."""
    return await _asked("cutover", cohort, path, environment)


async def finish(cohort: str, path: Path, environment: Environment) -> dict[str, Any]:
    """Ask alih serve to close the way back of a cohort, and wait for its answer."""
    return await _asked("finish", cohort, path, environment)


async def _asked(command: str, cohort: str, path: Path, environment: Environment) -> dict[str, Any]:
    """Raises what serve answers with."""
    contract = contracts.load(path, environment.variables)
    if contract.tenant_entity is None:
        raise Refused("the contract has no tenants: nothing is cut over", remedy="add `tenant:` to the contract")
    async with AsyncExitStack() as stack:
        dsns = await app.databases(contract, environment, stack)
        control = Control(await stack.enter_async_context(Line(dsns["control"], "the control database")))
        if not await control.led():
            raise NeedsOperator("alih serve is not running", remedy="start it, wait until it is ready, then run again")
        code, answer = await _answered(control, await control.ask(command, cohort, environment.account))
    if "error" in answer:
        raise _KINDS.get(code, Corrupt)(str(answer["error"]), remedy=str(answer["remedy"]))
    return {"exit_code": code} | answer


async def _answered(control: Control, command: int) -> tuple[int, dict[str, Any]]:
    while (answered := await control.answered(command)) is None:
        if not await control.led():
            raise Retryable(
                "alih serve ended before it answered",
                remedy="start it again: it puts right what was half done; then run this again",
            )
        await control.stirred(1.0)
    return answered


_KINDS: dict[int, type[AlihError]] = {kind.exit_code: kind for kind in (Retryable, NeedsOperator, Refused, Corrupt)}


async def status(path: Path, environment: Environment) -> dict[str, Any]:
    """Streams, tenants and strays as one document."""
    contract = contracts.load(path, environment.variables)
    document: dict[str, Any] = {"migration": contract.name, "streams": {}}
    async with AsyncExitStack() as stack:
        dsns = await app.databases(contract, environment, stack)
        connections = {
            side: await stack.enter_async_context(await connect(dsns[side], f"the {side} database")) for side in Side
        }
        for direction in Direction:
            found = await statuses.stream(connections[direction.reads], connections[direction.writes], direction)
            if found is not None:
                document["streams"][direction.value] = found
        if "control" in dsns:
            control = Control(await stack.enter_async_context(Line(dsns["control"], "the control database")))
            if await control.installed():
                document["tenants"] = await control.counts()
                document["hold_ms"] = percentiles(await control.holds_ms())
    return document


def percentiles(ordered: list[float]) -> dict[str, float]:
    """p50, p99 and max of ascending milliseconds; zeros when nothing waited."""
    if not ordered:
        return {"p50": 0.0, "p99": 0.0, "max": 0.0}
    last = len(ordered) - 1
    return {"p50": ordered[round(last * 0.5)], "p99": ordered[round(last * 0.99)], "max": ordered[-1]}


async def clean(path: Path, environment: Environment, say: Say) -> None:
    """Remove every trace, and print what only the tables' owner can remove."""
    contract = contracts.load(path, environment.variables)
    async with AsyncExitStack() as stack:
        dsns = await app.databases(contract, environment, stack)
        lines = [Line(dsns[name], f"the {name} database") for name in dsns if name == "control"]
        controls = [Control(await stack.enter_async_context(line)) for line in lines]
        for control in controls:
            if await control.led():
                raise NeedsOperator("alih serve runs this migration", remedy="end it with Ctrl-C, then run this again")
        left = await app.clean(contract.name, {side: dsns[side] for side in Side})
        for control in controls:
            await control.remove()
    for side, statements in left.items():
        for statement in statements:
            say(f"{side}: left for the owner of the tables: {statement};")
    say(f"{contract.name}: no other trace is left in either database")


def lines(document: dict[str, Any], indent: str = "") -> Iterator[str]:
    """A document as text: one line for each value, nested ones indented."""
    for name, value in document.items():
        if isinstance(value, dict):
            yield f"{indent}{name}:"
            yield from lines(value, indent + "  ")
        elif isinstance(value, list):
            yield f"{indent}{name}:"
            for item in value:
                yield (
                    indent
                    + "  - "
                    + (", ".join(f"{k} {v}" for k, v in item.items()) if isinstance(item, dict) else str(item))
                )
        else:
            yield f"{indent}{name}: {value}"
