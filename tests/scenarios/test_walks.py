"""Random walks through the fault matrix under load; each can be repeated by its seed alone: `pytest --walk SEED`."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

import pytest

from alih.model.side import Side
from tests.support.crew import Crew
from tests.support.databases import Databases
from tests.support.fault_matrix import Fault
from tests.support.faulted_bank import Bank, faulted_bank

pytestmark = pytest.mark.anyio

STEPS = 4
FEW, MANY = range(1, 3), range(1001, 1101)


async def step(crew: Crew, generator: random.Random) -> str:
    """One fault; returns what it was."""
    if generator.random() < 0.25:
        return await _from_outside(crew, generator)
    fault = Fault.drawn(generator)
    if fault.of_worker and not await crew.bank.unfinished():
        return f"{fault}: too late"
    return f"{fault}{'' if await crew.suffer(fault) else ': not reached'}"


async def _from_outside(crew: Crew, generator: random.Random) -> str:
    """At whatever moment it is: one batch or a few from now."""
    steps: dict[str, Callable[[], Awaitable[None]]] = {
        "the source crashes": partial(crew.bank.crash, Side.SOURCE),
        "the target crashes": partial(crew.bank.crash, Side.TARGET),
        "the follower is killed": crew.kill_follower,
        "both workers are killed": crew.kill_workers,
    }
    name, happens = generator.choice(list(steps.items()))
    await crew.batches(generator.randint(1, 20))
    await happens()
    await crew.alive()
    return name


async def walk(bank: Bank, seed: int) -> list[str]:
    """Returns what happened, in order."""
    generator = random.Random(seed)
    async with asyncio.TaskGroup() as tasks:
        load = tasks.create_task(bank.load(seed))
        crew = await Crew.at_work(bank)
        happened = [await step(crew, generator) for _ in range(STEPS)]
        await crew.copied()
        await bank.sums_at_a_drained_position()
        bank.stop_load()
        await load
        await crew.alive()
        await bank.sums_at_a_drained_position()
        await bank.equal()
    return happened


async def test_a_walk(databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, walk_seed: int) -> None:
    print(f"walk of seed {walk_seed}")  # noqa: T201 - shown with a failure
    async with faulted_bank(databases, tmp_path, monkeypatch) as bank:
        print("; ".join(await walk(bank, walk_seed)))  # noqa: T201


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "walk_seed" in metafunc.fixturenames:
        asked = metafunc.config.getoption("--walk")
        long = [pytest.param(seed, marks=pytest.mark.long) for seed in MANY]
        metafunc.parametrize("walk_seed", [asked] if asked is not None else [*FEW, *long])
