"""Hold, drain, flip and flip back at random under load: nothing runs at a side that was declared drained."""

import asyncio
import random
import time
from collections import Counter

import aiohttp
import pytest

from alih.gateway.gate import Limits
from alih.model.side import Side
from tests.integration.gateway.world import BackEnd, GateWorld, gate_world

pytestmark = pytest.mark.anyio

_CLIENTS = 24
_RUN_S = 6.0
Window = tuple[Side, float, float]


@pytest.mark.parametrize("waits_for_drain", [True, False], ids=["drained", "control"])
async def test_nothing_runs_at_a_drained_side(waits_for_drain: bool) -> None:
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    draw = random.Random(seed)
    async with gate_world(Limits(request_max_s=0.05, grace_s=1.0)) as w:
        for side in (w.source, w.target):
            side.takes_s = lambda: draw.expovariate(200)
        w.gate.track("17")
        statuses: Counter[int] = Counter()
        ending = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for n in range(_CLIENTS):
                group.create_task(_shop(w, random.Random(seed + n), statuses, ending))
            run_s = _RUN_S if waits_for_drain else 1.0
            windows = await _cycles(w, draw, time.monotonic() + run_s, waits_for_drain=waits_for_drain)
            ending.set()
        violations = sum(_running_in(w, window) for window in windows)
        answered, executed = statuses.total(), len(w.source.executions) + len(w.target.executions)
    print(f"{len(windows)} cycles, {answered} answers, {executed} executions, {violations} violations")  # noqa: T201
    assert set(statuses) == {200}
    assert executed >= answered >= 100
    assert len(windows) >= (20 if waits_for_drain else 5)
    assert (violations == 0) is waits_for_drain  # the control shows that the check can fail


async def _cycles(w: GateWorld, draw: random.Random, until: float, *, waits_for_drain: bool) -> list[Window]:
    windows: list[Window] = []
    while time.monotonic() < until:
        await asyncio.sleep(draw.uniform(0, 0.02))
        w.gate.hold("17")
        if draw.random() < 0.2:  # an abort
            w.gate.release("17")
            continue
        if waits_for_drain and not await w.gate.drained("17", draw.choice((0.001, 1.0))):
            w.gate.release("17")
            continue
        left = w.owners.rows["17"]
        assert left is not None
        began = time.monotonic()
        await asyncio.sleep(draw.uniform(0, 0.01))
        w.owners.rows["17"] = left.other
        w.gate.release("17")
        await asyncio.sleep(draw.uniform(0, 0.01))
        windows.append((left, began, time.monotonic()))
    return windows


async def _shop(w: GateWorld, draw: random.Random, statuses: Counter[int], ending: asyncio.Event) -> None:
    while not ending.is_set():
        headers = {"x-alih-tenant": "17", "Idempotency-Key": str(draw.randrange(2**60))}
        try:
            # Some have no patience and hang up: what they asked for runs on.
            patience = aiohttp.ClientTimeout(total=0.003 if draw.random() < 0.1 else 30)
            async with w.client.request(
                draw.choice(("GET", "POST", "PUT")), w.url("/x"), headers=headers, timeout=patience
            ) as answer:
                await answer.read()
                statuses[answer.status] += 1
        except TimeoutError:
            continue


def _running_in(w: GateWorld, window: Window) -> int:
    side, began, ended = window
    back_end: BackEnd = w.source if side is Side.SOURCE else w.target
    return sum(e.began < ended and (e.ended or ended) > began for e in back_end.executions)
