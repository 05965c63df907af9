"""A process to be killed: effects with their entries in one transaction, and a sequencer that signs beside them.

`python busy.py DSN KEY FIRST` prints the number of each effect that is committed.
"""

import asyncio
import itertools
import sys
from pathlib import Path

from alih.evidence.entry import Entry
from alih.evidence.note import SigningKey
from alih.postgres import evidence
from alih.postgres.session import connect


async def act(dsn: str, first: int) -> None:
    async with await connect(dsn, "the control database") as connection:
        for number in itertools.count(first):
            async with connection.transaction():
                await connection.execute("INSERT INTO effect (number) VALUES (%s)", (number,))
                await evidence.outbox(connection, Entry("effect", {"number": number}, {"sale": f"ORDER-{number}"}))
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()


async def sign(dsn: str, key: SigningKey) -> None:
    async with await connect(dsn, "the control database") as connection:
        while True:
            await evidence.sequence(connection)
            await evidence.checkpoint(connection, key)


async def main(dsn: str, key: SigningKey, first: int) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(act(dsn, first))
        tasks.create_task(sign(dsn, key))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], SigningKey.load_or_make(Path(sys.argv[2]), "alih/killed"), int(sys.argv[3])))
