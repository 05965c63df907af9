"""A follower and two workers of the faulted bank, each started again when it has ended."""

import signal
from dataclasses import dataclass
from typing import Self

from alih.errors import Retryable
from tests.support.fault_matrix import Fault, struck
from tests.support.faulted_bank import Bank
from tests.support.nursery import Actor
from tests.support.waiting import until

_MAY_BE_STARTED_AGAIN = (0, Retryable.exit_code, -signal.SIGKILL)
_COPIED_WITHIN_S = 300.0


@dataclass(eq=False, slots=True)
class Crew:
    bank: Bank
    follower: Actor
    workers: list[Actor]

    @classmethod
    async def at_work(cls, bank: Bank) -> Self:
        return cls(bank, await bank.follower(), [await bank.worker() for _ in range(2)])

    async def suffer(self, fault: Fault) -> bool:
        """Have one of them begin anew, with a fault planted; false if it never came to its point."""
        if fault.of_worker:
            for worker in self.workers:  # the other one would take the chunks away meanwhile
                await worker.kill()
            self.workers[0] = await self.bank.worker(fault.planted)
            happened = await struck(self.bank, self.workers[0], fault)
        else:
            await self.follower.kill()
            self.follower = await self.bank.follower(fault.planted)
            happened = await struck(self.bank, self.follower, fault)
        await self.alive()
        return happened

    async def kill_follower(self) -> None:
        await self.follower.kill()

    async def kill_workers(self) -> None:
        for worker in self.workers:
            await worker.kill()

    async def alive(self) -> None:
        """Start again who has ended; what a person would have to see fails the test."""
        if self.follower.code is not None:
            assert self.follower.code in _MAY_BE_STARTED_AGAIN, self.follower.said()
            self.follower = await self.bank.follower()
        for place, worker in enumerate(self.workers):
            if worker.code is not None and (worker.code != 0 or await self.bank.unfinished()):
                assert worker.code in _MAY_BE_STARTED_AGAIN, worker.said()
                self.workers[place] = await self.bank.worker()

    async def batches(self, many: int) -> None:
        """Let so many batches pass."""
        begun = await self.bank.ordinal()

        async def committed() -> bool:
            await self.alive()
            return await self.bank.ordinal() >= begun + many

        await until(committed, within_s=60)

    async def copied(self) -> None:
        """Wait until the workers have said that all is done; then no row becomes a chunk of its own any more."""

        async def said() -> bool:
            await self.alive()
            return all(worker.code == 0 for worker in self.workers) and await self.bank.unfinished() == 0

        try:
            await until(said, _COPIED_WITHIN_S)
        except AssertionError:
            raise AssertionError(await self.bank.picture()) from None
