"""`alih run`: copy, follow, verify, without a gateway; and the processes that keep the streams running."""

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

from alih import app
from alih import contract as contracts
from alih.app import Migration
from alih.config import Environment
from alih.errors import NeedsOperator, Refused, Retryable
from alih.model.finding import Verdict
from alih.model.projection import Direction
from alih.model.side import Side
from alih.postgres import createtarget
from alih.postgres.session import connect
from alih.process import child

_RESTARTS = 10  # in a row: 1, 2, 4 … seconds apart
_RESTART_MOST_S = 30.0
_GOOD_AFTER_S = 60.0  # a follower that ran so long did well

Say = Callable[[str], None]


async def run(path: Path, environment: Environment, *, create_target: bool, until_verified: bool, say: Say) -> Verdict:
    """Copy, follow and verify; then keep following until cancelled, or end with the verdict."""
    if create_target:
        for line in await _create_tables(path, environment):
            say(f"not carried: {line}")
    async with app.opened(path, environment) as migration:
        await app.install(migration)
        async with asyncio.TaskGroup() as tasks:
            streams = [tasks.create_task(follow_forever(migration, d, path, environment)) for d in migration.directions]
            verdict = await _copy_and_verify(migration, say)
            if until_verified:
                for stream in streams:
                    stream.cancel()
            else:
                say("following; Ctrl-C ends it, and the next run goes on from there")
        return verdict


async def _copy_and_verify(migration: Migration, say: Say) -> Verdict:
    engine = migration.engine(Direction.FORWARD)
    say(f"copying {len(engine.projections)} tables")
    await engine.copy()
    say("copied; verifying while changes are applied")
    async with engine.verifier() as verifier:
        verdict = await verifier.everything()
        await verifier.record(verdict)
    say(
        f"verified {verdict.rows} rows: {len(verdict.findings)} differ, {verdict.undecided} undecided"
        f" at {verdict.position}"
    )
    return verdict


async def follow_forever(migration: Migration, direction: Direction, path: Path, environment: Environment) -> None:
    """Keep the process that follows one direction running. Raises what it stopped for; after a lost connection, or
    when somebody has killed it, it is started again, for some minutes if it never gets far."""
    log = environment.state_dir(migration.contract.name) / f"follow-{direction}.log"
    failures = 0
    while True:
        begun = time.monotonic()
        argv = [sys.executable, "-m", "alih", "follow", direction.value, str(path)]
        async with child(argv, log=log) as follower:
            code = await follower.wait()
        failures = 1 if time.monotonic() - begun > _GOOD_AFTER_S else failures + 1
        if not (code < 0 or code == Retryable.exit_code) or failures > _RESTARTS:
            break
        await asyncio.sleep(min(2.0 ** (failures - 1), _RESTART_MOST_S))
    reason = await _stop_reason(migration, direction)
    raise NeedsOperator(
        f"the {direction} stream ended: {reason or f'exit code {code}'}",
        remedy=f"mend the cause (its log is {log}), then run the same command again: it goes on where it stopped",
    )


async def _stop_reason(migration: Migration, direction: Direction) -> str | None:
    async with await migration.connect(direction.writes) as writes:
        cursor = await writes.execute("SELECT stopped FROM alih.stream WHERE direction = %s", (direction.value,))
        row = await cursor.fetchone()
    return row[0] if row else None


async def _create_tables(path: Path, environment: Environment) -> Sequence[str]:
    """Make the target tables that are missing and have the same name as their source."""
    contract = contracts.load(path, environment.variables)
    if different := [e.name for e in contract.entities if e.source != e.target]:
        raise Refused(
            f"--create-target makes identical tables only, and these have other names: {', '.join(different)}",
            remedy="create those tables on the target yourself, as the marketplace wants them",
        )
    async with AsyncExitStack() as stack:
        dsns = await app.databases(contract, environment, stack)
        source, target = [
            await stack.enter_async_context(await connect(dsns[side], f"the {side} database")) for side in Side
        ]
        return await createtarget.create(source, target, [e.source for e in contract.entities])
