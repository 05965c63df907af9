"""The story, told once from top to bottom in `tell`."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from alih import faces
from alih.config import Environment
from alih.process import Child
from demo import audit, seed, shoppers
from demo.story import proof
from demo.story.proof import Document, Proof, Trials
from demo.story.screen import View
from demo.story.world import CommandFailed, World, answering, grant, services, set_faults

SEED = 31
FAULTS = {
    "seed": SEED,
    "late": 0.1,
    "repeated": 0.1,
    "reordered": 0.1,
    "lost": 0.02,
    "timeout_after_success": 0.03,
    "slow": 0.1,
    "late_s": 3.0,
    "slow_s": 8.0,
}
"""What goes wrong at the provider, as shares. Slow buyers' charges are open for so long that every flip meets some."""
COHORTS = ("first", "tenth", "rest")
SHARED = "shared"
_FIRST_COHORT, _LAST_COHORT = 3, 2  # the chapter in which the first of them moves; those after the third share one
_LOOK_EVERY_S = 2.0
_VERIFIED_WITHIN_S = 180.0


async def _nothing(world: World) -> None:
    del world


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """How large a story is told. `rate` is in requests a second, all shoppers together; `still_s` is for how long
    they shop before the first cutover and after the last, which is longer if they have not placed `least_orders` by
    then. `faults` are the shares of the provider's notices and answers that go wrong, by kind. Purchases are `tried` in
    the test shops of these cohorts, whose way back is closed at the end, and `audited` sales are traced. Tests plant
    something when the load begins (`opening`) or when it has ended (`closing`), to see that the audit finds it."""

    shops: int = 300
    past_orders: int = 20_000
    rate: float = 70.0
    still_s: float = 15.0
    least_requests: int = 5_000
    least_orders: int = 0
    audited: int = 200
    cohorts: Sequence[str] = COHORTS
    tried: Sequence[str] = COHORTS
    faults: Mapping[str, float] = field(default_factory=lambda: dict(FAULTS))
    hold_p99_ms: float = 500.0
    opening: Callable[[World], Awaitable[None]] = _nothing
    closing: Callable[[World], Awaitable[None]] = _nothing


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """What the story ended with; `status` and `verification` are alih's own words."""

    audit: audit.Audit
    summary: shoppers.Summary
    status: dict[str, Any]
    verification: dict[str, Any]
    proof: Proof
    shape_differences: Sequence[str]
    duration_s: float
    script: Script


async def tell(world: World, view: View, out: Path, script: Script) -> Ending:
    """A shop that sells is moved while it sells, and what the shoppers were told is held against the books."""
    began = monotonic()
    made = await asyncio.to_thread(_seeded, world, script)
    view.tenants = len(made.shops)
    opening = await audit.opening(world.stores)
    opening.save(out / "opening.json")
    async with services(world):
        await grant(world)
        load = _load(world, made, out, script)
        leave = asyncio.Event()
        async with world.running("alih-serve.log", "serve") as serve, _watched(serve, world, view):
            await answering(f"http://{world.gateway}/", served=True)
            view.chapter = 1
            await set_faults(world, script.faults)
            await script.opening(world)
            async with asyncio.TaskGroup() as tasks:
                shopping = tasks.create_task(load.run(leave))
                trials, scores = await _move(world, view, load, out, script)
                view.chapter += 1
                leave.set()
                summary = await shopping
            await script.closing(world)
            verification = await _verification(world)
            shown = await _shown(world, out, script, trials, scores)
            status = await _status(world)
        differences = shoppers.compare_shapes(load.recordings)
        audited = await audit.audit(
            out / "diary.jsonl",
            world.stores,
            opening,
            test_shops=[str(shop) for shop in made.test_shops],
            stray_writes=_strays(status),
            shape_differences=[*differences, *verification.get("complaints", [])],
        )
    return Ending(
        audit=audited,
        summary=summary,
        status=status,
        verification=verification,
        proof=shown,
        shape_differences=differences,
        duration_s=monotonic() - began,
        script=script,
    )


def _seeded(world: World, script: Script) -> seed.Seeded:
    where = (world.dsns["legacy"], world.dsns["marketplace"], world.dsns["social"])
    return seed.seed(*where, seed=SEED, shops=script.shops, buyers=script.shops * 10, orders=script.past_orders)


def _load(world: World, made: seed.Seeded, out: Path, script: Script) -> shoppers.Shoppers:
    return shoppers.Shoppers(
        f"http://{world.gateway}",
        [str(shop.id) for shop in made.shops if shop.id not in made.test_shops],
        [str(buyer) for buyer in made.buyers],
        script.rate,
        SEED,
        out / "diary.jsonl",
    )


async def _move(
    world: World, view: View, load: shoppers.Shoppers, out: Path, script: Script
) -> tuple[list[Document], list[Document]]:
    """Everything between the first shopper and the last: the move itself. Gives the purchases that were tried
    meanwhile, and the scores on the way."""
    load.label("before")
    view.live = load.live
    view.chapter = 2
    async with asyncio.timeout(_VERIFIED_WITHIN_S):
        await view.verified.wait()
    scores = [await world.document("score")]
    async with proof.trying(world) as trials:
        await asyncio.sleep(script.still_s)
        load.label("during")
        for number, cohort in enumerate(script.cohorts):
            view.chapter = _FIRST_COHORT + min(number, _LAST_COHORT)
            await _move_cohort(cohort, world, view, trials if cohort in script.tried else None)
            if cohort in script.tried or number == 1:
                scores.append(await world.document("score"))
            if number == 1:
                await proof.witness(world, out)
        view.chapter += 1
        await world.alih("cutover", SHARED)
        load.label("after")
        view.chapter += 1
        await _still(script, load)
    return trials.told(), scores


async def _move_cohort(cohort: str, world: World, view: View, trials: Trials | None) -> None:
    """A purchase is tried in the cohort's test shop, if it has one, before its flip, and another one after it."""
    if trials is None:
        await world.alih("cutover", cohort)
        return
    await trials.tried(cohort, "before")
    await world.alih("cutover", cohort)
    await trials.tried(cohort, "after")
    view.trials = trials.told()


async def _still(script: Script, load: shoppers.Shoppers) -> None:
    await asyncio.sleep(script.still_s)
    for _ in itertools.count():
        if load.live().orders >= script.least_orders:
            return
        await asyncio.sleep(1.0)


async def _shown(world: World, out: Path, script: Script, trials: list[Document], scores: list[Document]) -> Proof:
    audited, reconciled = await proof.prove(world, script.audited, SEED, [*script.tried, SHARED])
    scores.append(await world.document("score"))
    verified = await proof.close(world, out)
    return Proof(trials=trials, scores=scores, audit=audited, reconciliation=reconciled, verified=verified)


async def _verification(world: World) -> dict[str, Any]:
    """Both sides compared once more by alih, every row in the direction that leads away from its owner."""
    try:
        return await world.document("verify")
    except CommandFailed as failed:
        return {"rows": 0, "mismatches": 1, "complaints": [f"verification: {failed}"]}


async def _status(world: World) -> dict[str, Any]:
    return await faces.status(world.contract, Environment(variables=world.environment))


def _strays(status: dict[str, Any]) -> list[str]:
    return [
        f"{direction}: {stream['stray_writes']} writes on the side that does not own the tenant"
        for direction, stream in status["streams"].items()
        if stream["stray_writes"]
    ]


@asynccontextmanager
async def _watched(serve: Child, world: World, view: View) -> AsyncIterator[None]:
    """Keep the view up to date, and end the story if alih serve ends before it should."""
    async with asyncio.TaskGroup() as tasks:
        watching = [tasks.create_task(_look(world, view)), tasks.create_task(_die_with(serve, world))]
        yield
        for task in watching:
            task.cancel()


async def _look(world: World, view: View) -> None:
    while True:
        view.update(await _status(world))
        await asyncio.sleep(_LOOK_EVERY_S)


async def _die_with(serve: Child, world: World) -> None:
    code = await serve.wait()
    log = (world.logs / "alih-serve.log").read_text(encoding="utf-8")
    raise CommandFailed(f"alih serve ended with {code}:\n{log}")
