"""What `alih follow` does: one direction's stream in this process, which knows the contract's links."""

import asyncio

from alih.app import Migration
from alih.errors import NeedsOperator
from alih.model.projection import Direction
from alih.model.side import Side
from alih.postgres import links
from alih.postgres.failures import Unmapped

_LINKED_WITHIN = 30  # times a second apart


async def follow(migration: Migration, direction: Direction) -> None:
    """Follow until cancelled. A row that refers to an id which was linked after the start is applied once the link is
    read; one that is not linked within half a minute stops the stream by name."""
    while True:
        try:
            await migration.engine(direction).follow()
        except Unmapped as stop:
            await _linked_since(migration, direction, stop)


async def _linked_since(migration: Migration, direction: Direction, stop: Unmapped) -> None:
    """Return once there are links that were not known. Raises `stop`, with the ids that lack one, if none comes."""
    entities = migration.contract.entities
    async with await migration.connect(Side.SOURCE) as source, await migration.connect(Side.TARGET) as target:
        reads, writes = (source, target) if direction is Direction.FORWARD else (target, source)
        ours = {p.entity: p.reads_ours for p in migration.engine(direction).projections}
        missing: list[str] = []
        for _ in range(_LINKED_WITHIN):
            if await links.refresh(source, target, entities):
                return
            missing = await links.unlinked(reads, entities, ours, direction)
            if not missing:
                raise stop
            await asyncio.sleep(1)  # whoever links an account on the target tells nobody
        named = NeedsOperator(
            f"rows refer to what is not linked: {', '.join(missing)}",
            remedy="link it where the contract's `link:` reads, on the target, then run the same command again",
        )
        await writes.execute("UPDATE alih.stream SET stopped = %s WHERE direction = %s", (str(named), direction.value))
        raise named
