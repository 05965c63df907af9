"""Waiting for a condition, with a bound: a test never sleeps and hopes."""

import asyncio
import time
from collections.abc import Awaitable, Callable


async def until(condition: Callable[[], bool | Awaitable[bool]], within_s: float = 10.0) -> None:
    """Return when `condition()` is true, looking every 20 ms; after `within_s` seconds the test fails and names it.

    The time is counted between looks, so a look that takes long is let finish and its answer counts.
    """
    deadline = time.monotonic() + within_s
    while not await _holds(condition):
        if time.monotonic() > deadline:
            name = getattr(condition, "__qualname__", repr(condition))
            raise AssertionError(f"not within {within_s:g} s: {name}")
        await asyncio.sleep(0.02)


async def _holds(condition: Callable[[], bool | Awaitable[bool]]) -> bool:
    answer = condition()
    return answer if isinstance(answer, bool) else await answer
