"""The story, told once from top to bottom in `tell`."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from alih import faces
from alih.config import Environment
from alih.process import Child
from demo import audit, seed, shoppers
from demo.story.screen import View
from demo.story.world import CONTRACT, CommandFailed, World, answering, grant, services

SEED = 31
COHORTS = ("first", "tenth", "rest", "shared")
_FIRST_COHORT = 3  # the chapter in which the first of them moves
_LOOK_EVERY_S = 2.0
_VERIFIED_WITHIN_S = 180.0


async def _nothing(world: World) -> None:
    del world


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """How large a story is told. `rate` is in requests a second, all shoppers together; `still_s` is for how long
    they shop before the first cutover and after the last. The tests plant something when the load begins
    (`opening`) or when it has ended (`closing`), to see that the audit finds it."""

    shops: int = 300
    past_orders: int = 20_000
    rate: float = 70.0
    still_s: float = 15.0
    least_requests: int = 5_000
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
        async with world.serving() as serve, _watched(serve, world, view), asyncio.TaskGroup() as tasks:
            await answering(f"http://{world.gateway}/", served=True)
            view.chapter = 1
            await script.opening(world)
            shopping = tasks.create_task(load.run(leave))
            await _move(world, view, load, script)
            view.chapter += 1
            leave.set()
            summary = await shopping
            await script.closing(world)
            verification = await _verification(world)
            status = await _status(world)
        differences = shoppers.compare_shapes(load.recordings)
        audited = await audit.audit(
            out / "diary.jsonl",
            world.stores,
            opening,
            stray_writes=_strays(status),
            shape_differences=[*differences, *verification.get("complaints", [])],
        )
    return Ending(
        audit=audited,
        summary=summary,
        status=status,
        verification=verification,
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
        [str(shop.id) for shop in made.shops],
        [str(buyer) for buyer in made.buyers],
        script.rate,
        SEED,
        out / "diary.jsonl",
    )


async def _move(world: World, view: View, load: shoppers.Shoppers, script: Script) -> None:
    """Everything between the first shopper and the last: the move itself."""
    load.label("before")
    view.live = load.live
    view.chapter = 2
    async with asyncio.timeout(_VERIFIED_WITHIN_S):
        await view.verified.wait()
    await asyncio.sleep(script.still_s)
    load.label("during")
    for number, cohort in enumerate(COHORTS):
        view.chapter = _FIRST_COHORT + number
        await world.alih("cutover", cohort, str(CONTRACT))
    load.label("after")
    view.chapter = _FIRST_COHORT + len(COHORTS)
    await asyncio.sleep(script.still_s)


async def _verification(world: World) -> dict[str, Any]:
    """Both sides compared once more by alih, every row in the direction that leads away from its owner."""
    try:
        document: dict[str, Any] = json.loads(await world.alih("verify", str(CONTRACT), "--json"))
    except CommandFailed as failed:
        return {"rows": 0, "mismatches": 1, "complaints": [f"verification: {failed}"]}
    return document


async def _status(world: World) -> dict[str, Any]:
    return await faces.status(CONTRACT, Environment(variables=world.environment))


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
