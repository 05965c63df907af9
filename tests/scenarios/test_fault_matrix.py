"""Every fault at every point, under load: afterwards all rows are equal, and no position was ever ahead of its data."""

import asyncio
from pathlib import Path

import pytest

from alih.faults import Point
from tests.support.crew import Crew
from tests.support.databases import Databases
from tests.support.fault_matrix import MATRIX, Fault, Strike
from tests.support.faulted_bank import faulted_bank

pytestmark = pytest.mark.anyio

FEW = {
    Fault(Point.BATCH_WRITTEN, Strike.LOST_ANSWER),
    Fault(Point.SPOOL_REPLAYED, Strike.KILLED),
    Fault(Point.BATCH_COMMITTED, Strike.SOURCE_CRASHES),
}


@pytest.mark.parametrize(
    "fault", [pytest.param(f, id=str(f), marks=() if f in FEW else pytest.mark.long) for f in MATRIX]
)
async def test_a_fault(databases: Databases, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault) -> None:
    async with faulted_bank(databases, tmp_path, monkeypatch) as bank, asyncio.TaskGroup() as tasks:
        load = tasks.create_task(bank.load(seed=1))
        crew = await Crew.at_work(bank)
        assert await crew.suffer(fault)
        await crew.copied()
        await bank.sums_at_a_drained_position()
        bank.stop_load()
        await load
        await bank.sums_at_a_drained_position()
        await bank.equal()
