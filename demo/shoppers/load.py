"""The load: many shoppers at once, together at a steady rate, through the gateway and nothing else."""

import asyncio
import random
from collections.abc import Sequence
from pathlib import Path

import aiohttp

from demo.shoppers.browser import TIMEOUT, Browser
from demo.shoppers.diary import Diary, Live, Summary
from demo.shoppers.journey import Shopper
from demo.shoppers.shapes import Recordings

SHOPPERS_PER_RATE = 0.3
"""Shoppers needed for one request a second, with room for those who wait for a payment or at a hold."""
REQUESTS_PER_JOURNEY = 19


class Pace:
    """Gives out turns at random moments, `rate` a second in the mean; late shoppers do not make a rush."""

    def __init__(self, rate: float, rng: random.Random) -> None:
        self._rate = rate
        self._rng = rng
        self._next = 0.0

    async def turn(self) -> None:
        now = asyncio.get_running_loop().time()
        self._next = max(self._next, now) + self._rng.expovariate(self._rate)
        await asyncio.sleep(self._next - now)


class Shoppers:
    """All shoppers of the demo and their common diary, written to `diary_path` as they go.

    `rate` is in requests a second, all shoppers together; no two shoppers use one buyer's account.
    """

    def __init__(
        self,
        base_url: str,
        shops: Sequence[str],
        buyers: Sequence[str],
        rate: float,
        seed: int,
        diary_path: Path = Path("out/demo/diary.jsonl"),
    ) -> None:
        self._base_url = base_url
        self._shops = shops
        self._buyers = buyers
        self._rate = rate
        self._rng = random.Random(seed)
        self._pace = Pace(rate, self._rng)
        self._count = min(len(buyers), max(1, round(rate * SHOPPERS_PER_RATE)))
        self.diary = Diary(diary_path)

    async def run(self, stop: asyncio.Event) -> Summary:
        """Shop until `stop` is set and each shopper has ended the journey it was on: all told orders are followed up.

        Cancelled, it leaves journeys where they are; the diary on disk holds what was told until then.
        """
        # One connection a shopper at most, kept open as a browser does.
        session = aiohttp.ClientSession(timeout=TIMEOUT, connector=aiohttp.TCPConnector(limit=0))
        with self.diary.opened():
            async with session, asyncio.TaskGroup() as group:
                for number in range(self._count):
                    group.create_task(self._shop(number, session, stop))
        return self.diary.summary()

    def label(self, phase: str) -> None:
        """From now on calls are recorded under this phase of the story: before, during, after."""
        self.diary.label = phase

    def live(self) -> Live:
        return self.diary.live()

    @property
    def recordings(self) -> Recordings:
        """The shapes of all calls, phase by phase, for `compare_shapes`."""
        return self.diary.recordings

    async def _shop(self, number: int, session: aiohttp.ClientSession, stop: asyncio.Event) -> None:
        browser = Browser(session, self._base_url, self.diary, self._pace.turn)
        own, rng = self._buyers[number :: self._count], random.Random(self._rng.random())
        shopper = Shopper(browser, self.diary, self._shops, own, rng, turn=rng.randrange(60))
        # They come one after another over the time of one journey, or all would be at the same step together.
        await asyncio.sleep(number * REQUESTS_PER_JOURNEY / self._rate)
        while not stop.is_set():
            await shopper.journey()
        await shopper.leave()
