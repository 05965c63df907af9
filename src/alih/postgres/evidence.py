"""The evidence in the control database: an outbox, leaves in a row without gaps, checkpoints of their tree.

An entry enters the outbox in the transaction of its effect, so either both are there or neither. It is numbered later,
outside of what a shopper waits for. Only one sequencer works at a time, whoever calls it; what it has numbered stays.
"""

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from alih.errors import Corrupt, Retryable
from alih.evidence.bundle import compose
from alih.evidence.canonical import plain
from alih.evidence.entry import Entry, Leaf, Opening, leaf
from alih.evidence.merkle import Tree, leaf_hash
from alih.evidence.note import Checkpoint, SigningKey
from alih.postgres.line import Line
from alih.postgres.session import Connection, only_row

_SEQUENCING = 0x616C696A
"""The advisory lock of a transaction that numbers leaves or signs their tree."""
_AT_ONCE = 500  # entries of a transaction: some hundred kilobytes
_SEQUENCE_EVERY_S = 0.5


async def installed(connection: Connection) -> bool:
    """Whether there is a log: alih serve makes it when it first starts."""
    cursor = await connection.execute("SELECT to_regclass('alih_control.outbox') IS NOT NULL")
    return await cursor.fetchone() == (True,)


async def outbox(connection: Connection, entry: Entry) -> None:
    """Leave `entry` for the sequencer, in the caller's transaction."""
    await connection.execute("INSERT INTO alih_control.outbox (entry) VALUES (%s)", (entry.encode(),))


async def sequence(connection: Connection) -> int:
    """Make leaves of all entries whose effects are committed, in the order in which they came. Returns how many.
    The connection is in autocommit."""
    moved = 0
    while batch := await _sequence_some(connection):
        moved += batch
    return moved


async def _sequence_some(connection: Connection) -> int:
    cursor = await connection.execute("SELECT EXISTS (SELECT FROM alih_control.outbox)")
    if await cursor.fetchone() == (False,):
        return 0
    async with connection.transaction():
        await _alone(connection)
        number = await _size(connection)
        cursor = await connection.execute(_TAKE, (_AT_ONCE,))
        taken = await cursor.fetchall()
        await _keep(connection, [leaf(number + i, at, Entry.decode(text)) for i, (at, text) in enumerate(taken)])
    return len(taken)


async def _alone(connection: Connection) -> None:
    """Statements after this one see all that an earlier sequencer has committed."""
    await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_SEQUENCING,))


async def _size(connection: Connection) -> int:
    cursor = await connection.execute("SELECT coalesce(max(number) + 1, 0) FROM alih_control.leaf")
    (size,) = await only_row(cursor)
    return int(size)


async def _keep(connection: Connection, leaves: list[Leaf]) -> None:
    async with connection.cursor() as cursor:
        await cursor.executemany(
            "INSERT INTO alih_control.leaf (number, content, hash) VALUES (%s, %s, %s)",
            [(one.number, one.content, leaf_hash(one.content)) for one in leaves],
        )
        await cursor.executemany(
            "INSERT INTO alih_control.opening (number, name, salt, value) VALUES (%s, %s, %s, %s)",
            [(one.number, name, o.salt, o.value.encode()) for one in leaves for name, o in one.openings.items()],
        )


async def checkpoint(connection: Connection, key: SigningKey) -> str:
    """The signed note of the leaves so far. It is made and stored only if the tree has grown, or if the last one bears
    another key's signature. Raises Corrupt if the stored tree is not the one that was signed."""
    async with connection.transaction():
        await _alone(connection)
        # What was signed must not be lost again with the server's memory: the log would seem to be rolled back.
        await connection.execute("SET LOCAL synchronous_commit = on")
        tree, note = await _signed_so_far(connection)
        cursor = await connection.execute(
            "SELECT hash FROM alih_control.leaf WHERE number >= %s ORDER BY number", (tree.size,)
        )
        grown = [hashed for (hashed,) in await cursor.fetchall()]
        if note is not None and not grown and key.signed(note):
            return note
        tree.extend(grown)
        note = key.sign(Checkpoint(key.name, tree.size, tree.root))
        await connection.execute(
            "INSERT INTO alih_control.checkpoint (size, peaks, note) VALUES (%s, %s, %s)", (tree.size, tree.peaks, note)
        )
    return note


async def _signed_so_far(connection: Connection) -> tuple[Tree, str | None]:
    cursor = await connection.execute("SELECT size, peaks, note FROM alih_control.checkpoint ORDER BY id DESC LIMIT 1")
    row = await cursor.fetchone()
    if row is None:
        return Tree(), None
    tree, last = Tree.resumed(row[0], row[1]), Checkpoint.of(row[2])
    if (tree.size, tree.root) != (last.size, last.root):
        raise Corrupt(
            "the stored tree of the evidence is not the one that was signed",
            remedy="somebody has changed alih_control.checkpoint: compare it with a backup",
        )
    return tree, row[2]


async def keep_sequenced(line: Line, key: SigningKey) -> None:
    """Number and sign what comes, within about a second, until cancelled. While the control database is away, nothing
    is lost: the outbox waits with it."""
    await _sign_all(line, key)
    while True:
        await asyncio.sleep(_SEQUENCE_EVERY_S)
        with suppress(Retryable):
            await _sign_all(line, key)


async def _sign_all(line: Line, key: SigningKey) -> None:
    async with line.connection() as connection:
        await sequence(connection)
        await checkpoint(connection, key)


async def entries(connection: Connection) -> list[dict[str, Any]]:
    """Every leaf in its order, read, with its number `n`; what waits in the outbox is numbered first."""
    await sequence(connection)
    cursor = await connection.execute("SELECT content FROM alih_control.leaf ORDER BY number")
    return [json.loads(content) for (content,) in await cursor.fetchall()]


async def bundle(connection: Connection, key: SigningKey, *, openings: bool = True) -> str:
    """The whole log as one text, signed now; what waits in the outbox is in it. Without `openings`, every secret is
    withheld. Raises Corrupt if a stored leaf is not the one that was signed."""
    await sequence(connection)
    note = await checkpoint(connection, key)
    size = Checkpoint.of(note).size
    cursor = await connection.execute(
        "SELECT number, content FROM alih_control.leaf WHERE number < %s ORDER BY number", (size,)
    )
    leaves = await cursor.fetchall()
    shown = await _openings(connection) if openings else {}
    return compose([Leaf(number, content, shown.get(number, {})) for number, content in leaves], note)


async def _openings(connection: Connection) -> Mapping[int, Mapping[str, Opening]]:
    cursor = await connection.execute("SELECT number, name, salt, value FROM alih_control.opening")
    shown: dict[int, dict[str, Opening]] = {}
    for number, name, salt, value in await cursor.fetchall():
        shown.setdefault(number, {})[name] = Opening(salt, value.decode())
    return shown


async def record_if_new(connection: Connection, entry: Entry) -> bool:
    """Leave `entry`, unless the last one of its kind says the same; says whether it was left. Entries with secrets
    are not compared, so they are not for this."""
    same_kind = [found for found in await entries(connection) if found["kind"] == entry.kind]
    if same_kind and {n: v for n, v in same_kind[-1].items() if n not in {"n", "kind", "at"}} == plain(entry.facts):
        return False
    await outbox(connection, entry)
    return True


async def erase(connection: Connection, value: str) -> int:
    """Forget that a secret was `value`: its salts are deleted, its commitments stay and tell nothing any more. Returns
    how many there were. Bundles that were exported before still open them."""
    await sequence(connection)
    cursor = await connection.execute("DELETE FROM alih_control.opening WHERE value = %s", (value.encode(),))
    return cursor.rowcount


_TAKE = """
WITH taken AS (
    DELETE FROM alih_control.outbox
    WHERE id IN (SELECT id FROM alih_control.outbox ORDER BY id LIMIT %s)
    RETURNING id, at, entry
)
SELECT at, entry FROM taken ORDER BY id
"""
