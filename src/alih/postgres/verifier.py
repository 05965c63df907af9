"""Compares both databases through the mapping while writes go on, without a false difference.

1. Each side hashes its rows into buckets, in its own time. Equal buckets are done.
2. The keys of unequal buckets are looked at one by one. A difference counts only if it persists: the reading side's
   row is read, a cut is written and waited for, the writing side's row is read, then the reading side's again.
   Unchanged in between and still different: a mismatch. Changed in between: they are compared if the transaction
   that alih last applied to the key is the one that wrote the row which was read (its xmin), for then both stand at
   the same place in the log, however hot the row is. Otherwise ask again.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from alih.model.change import Lsn
from alih.model.contract import Scope
from alih.model.finding import Cause, Finding, Verdict
from alih.model.projection import Direction, Projection
from alih.model.side import SHARED
from alih.postgres import changed, positions
from alih.postgres.changed import Touched
from alih.postgres.comparison import PINNED, HashedSide, reading_side, writing_side
from alih.postgres.positions import Applied

Connection = AsyncConnection[tuple[Any, ...]]
Key = tuple[str, ...]

_ATTEMPTS = 60
_AT_ONCE = 2_000  # keys looked at in one query
_MOST_FINDINGS = 10_000
_APPLIED_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class _Image:
    """A row as one side has it; None if it is not there. `xid` is 32 bits."""

    hash: int | None
    xid: int | None


_ABSENT = _Image(None, None)


class _Judgement(Enum):
    """What a look at a suspect says, short of a finding."""

    EQUAL = auto()
    CHANGING = auto()  # the row changed meanwhile: ask again


@dataclass(frozen=True, slots=True)
class _Suspect:
    """A key whose rows may differ; `read_key` is None while only the writing side is known to have it."""

    write_key: Key
    read_key: Key | None


class Verifier:
    """Verifies one direction. All connections are its own, in autocommit."""

    def __init__(
        self, projections: Sequence[Projection], reads: Connection, writes: Connection, applied: Applied
    ) -> None:
        self._projections = projections
        self._reads = reads
        self._writes = writes
        self._applied = applied

    async def prepare(self) -> None:
        """Pin how values are printed; once."""
        for connection in (self._reads, self._writes):
            for setting in PINNED:
                await connection.execute(setting)

    async def everything(self, tenants: Sequence[str] | None = None) -> Verdict:
        """Compare all rows (of these tenants), then forget the changed keys that this has covered."""
        position = await self._caught_up()
        verdict = Verdict(rows=0, findings=(), undecided=0, position=position)
        for projection in self._projections:
            if _counts(projection, tenants):
                rows, suspects = await self._unequal(projection, tenants)
                verdict = _sum(verdict, await self._settled(projection, suspects), rows=rows)
        if verdict.clean:
            await changed.forget(self._writes, self._direction, position, tenants)
        return verdict

    async def record(self, verdict: Verdict) -> None:
        """Keep the verdict where alih status finds it: keys, never values."""
        findings = [{"entity": f.entity, "key": list(f.key), "cause": f.cause.value} for f in verdict.findings]
        await self._writes.execute(
            "INSERT INTO alih.verdict (direction, row_count, mismatches, undecided, findings, position)"
            " VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (direction) DO UPDATE SET row_count = excluded.row_count,"
            " mismatches = excluded.mismatches, undecided = excluded.undecided, findings = excluded.findings,"
            " position = excluded.position, verified_at = excluded.verified_at",
            (
                self._direction.value,
                verdict.rows,
                len(verdict.findings),
                verdict.undecided,
                Jsonb(findings),
                str(verdict.position),
            ),
        )

    async def changed_keys(self, tenant: str) -> Verdict:
        """Compare exactly the keys of a fenced, caught-up tenant that changed since they were last verified."""
        changed = await self._changed([tenant])
        findings: list[Finding] = []
        for projection, suspects in changed:
            for part in _parts(suspects):
                findings.extend(await self._compare_once(projection, part))
        return Verdict(
            rows=sum(len(suspects) for _, suspects in changed),
            findings=tuple(findings),
            undecided=0,
            position=await self._applied.position(),
        )

    async def recent_changes(self, tenants: Sequence[str]) -> Verdict:
        """Compare, while writes go on, the keys of these tenants that changed since they were last verified, then
        forget them: what is left for the verification inside a hold is what changes from here on."""
        position = await self._caught_up()
        verdict = Verdict(rows=0, findings=(), undecided=0, position=position)
        for projection, suspects in await self._changed(tenants):
            verdict = _sum(verdict, await self._settled(projection, suspects), rows=len(suspects))
        if verdict.clean:
            await changed.forget(self._writes, self._direction, position, tenants)
        return verdict

    # --- one entity -----------------------------------------------------------------------------------------

    async def _unequal(self, projection: Projection, tenants: Sequence[str] | None) -> tuple[int, list[_Suspect]]:
        """How many rows the reading side has, and the keys that differed when the two sides were hashed."""
        read = await self._buckets(self._reads, reading_side(projection), tenants)
        written = await self._buckets(self._writes, writing_side(projection), tenants)
        unequal = [bucket for bucket in read.keys() | written.keys() if read.get(bucket) != written.get(bucket)]
        suspects = await self._suspects(projection, unequal, tenants) if unequal else []
        return sum(count for count, _ in read.values()), suspects

    async def _settled(self, projection: Projection, suspects: Sequence[_Suspect]) -> tuple[list[Finding], int]:
        """The mismatches among the suspects, and how many could not be decided."""
        findings: list[Finding] = []
        undecided = 0
        for part in _parts(suspects):
            found, left = await self._settle(projection, part)
            findings, undecided = findings + found, undecided + left
        return findings, undecided

    async def _buckets(
        self, connection: Connection, side: HashedSide, tenants: Sequence[str] | None
    ) -> Mapping[int, tuple[int, str]]:
        cursor = await connection.execute(side.buckets(tenants))
        return {bucket: (count, total) for bucket, count, total in await cursor.fetchall()}

    async def _suspects(
        self, projection: Projection, buckets: Sequence[int], tenants: Sequence[str] | None
    ) -> list[_Suspect]:
        read_rows = await (await self._reads.execute(reading_side(projection).rows_of(buckets, tenants))).fetchall()
        read = {tuple(key): (tuple(own), hash_) for key, own, hash_ in read_rows}
        cursor = await self._writes.execute(writing_side(projection).rows_of(buckets, tenants))
        written = {tuple(key): hash_ for key, _, hash_ in await cursor.fetchall()}
        return [
            _Suspect(key, read[key][0] if key in read else None)
            for key in read.keys() | written.keys()
            if key not in read or read[key][1] != written.get(key)
        ]

    async def _settle(self, projection: Projection, suspects: list[_Suspect]) -> tuple[list[Finding], int]:
        """Look until each suspect is either equal or a mismatch, within bounds."""
        findings: list[Finding] = []
        for _ in range(_ATTEMPTS):
            begun = await positions.cut(self._reads)
            suspects = await self._located(projection, suspects)
            before = await self._read_images(projection, suspects)
            await self._caught_up()
            written, applied = await self._written_images(projection, suspects)
            after = await self._read_images(projection, suspects)
            undecided = []
            for suspect in suspects:
                key = suspect.write_key
                judgement = _judged(before[key], after[key], written[key], applied.get(key), begun)
                if isinstance(judgement, Cause):
                    findings.append(Finding(entity=projection.entity, key=key, cause=judgement))
                elif judgement is _Judgement.CHANGING:
                    undecided.append(suspect)
            suspects = undecided
            if not suspects:
                break
        return findings, len(suspects)

    async def _compare_once(self, projection: Projection, suspects: list[_Suspect]) -> list[Finding]:
        read = await self._read_images(projection, suspects)
        written, _ = await self._written_images(projection, suspects)
        pairs = ((s.write_key, read[s.write_key], written[s.write_key]) for s in suspects)
        return [
            Finding(entity=projection.entity, key=key, cause=_cause(was, now))
            for key, was, now in pairs
            if was.hash != now.hash
        ]

    # --- rows by key ----------------------------------------------------------------------------------------

    async def _located(self, projection: Projection, suspects: list[_Suspect]) -> list[_Suspect]:
        """Give suspects that only the writing side had their reading side's key, if there is such a row by now."""
        unknown = [s.write_key for s in suspects if s.read_key is None]
        if not unknown:
            return suspects
        cursor = await self._reads.execute(reading_side(projection).scanned(unknown))
        found = {tuple(key): tuple(own) for key, own in await cursor.fetchall()}
        return [s if s.read_key else _Suspect(s.write_key, found.get(s.write_key)) for s in suspects]

    async def _read_images(self, projection: Projection, suspects: Sequence[_Suspect]) -> dict[Key, _Image]:
        by_own = {s.read_key: s.write_key for s in suspects if s.read_key is not None}
        found = await self._images(self._reads, reading_side(projection), list(by_own))
        return {s.write_key: found.get(s.read_key or (), _ABSENT) for s in suspects}

    async def _written_images(
        self, projection: Projection, suspects: Sequence[_Suspect]
    ) -> tuple[dict[Key, _Image], Mapping[Key, Touched]]:
        """The writing side's rows, and what was last applied to each key, as of one snapshot."""
        keys = [s.write_key for s in suspects]
        async with self._writes.transaction():
            await self._writes.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            found = await self._images(self._writes, writing_side(projection), keys)
            applied = await changed.applied(self._writes, self._direction, projection.entity, keys)
        return {key: found.get(key, _ABSENT) for key in keys}, applied

    async def _images(self, connection: Connection, side: HashedSide, keys: Sequence[Key]) -> dict[Key, _Image]:
        if not keys:
            return {}
        cursor = await connection.execute(side.images(keys))
        return {tuple(key): _Image(hash_, xid) for key, hash_, xid in await cursor.fetchall()}

    # --- changed keys ---------------------------------------------------------------------------------------

    async def _changed(self, tenants: Sequence[str]) -> list[tuple[Projection, list[_Suspect]]]:
        """The changed keys of each entity that has any, in one query: somebody may be waiting."""
        found = await changed.of_tenants(self._writes, self._direction, tenants)
        return [
            (p, [_Suspect(key.write_key, key.read_key) for key in found[p.entity]])
            for p in self._projections
            if p.entity in found
        ]

    async def _caught_up(self) -> Lsn:
        """Have the stream apply all that the reading side has now, and say up to where that was."""
        position = await positions.cut(self._reads)
        await self._applied.reached(position, _APPLIED_WITHIN_S)
        return position

    @property
    def _direction(self) -> Direction:
        return self._projections[0].direction


def _sum(verdict: Verdict, settled: tuple[list[Finding], int], rows: int) -> Verdict:
    findings, undecided = settled
    return Verdict(
        rows=verdict.rows + rows,
        findings=(*verdict.findings, *findings)[:_MOST_FINDINGS],
        undecided=verdict.undecided + undecided,
        position=verdict.position,
    )


def _judged(
    before: _Image, after: _Image, written: _Image, applied: Touched | None, begun: Lsn
) -> "_Judgement | Cause":
    """A cause means different for good. A row that was absent both times may have come and gone in between: then
    its key was touched after `begun`, a place in the log from before the first look."""
    if written.hash in (before.hash, after.hash):
        return _Judgement.EQUAL
    came_and_went = before == _ABSENT and applied is not None and applied.position > begun
    if before == after and not came_and_went:
        return _cause(after, written)
    for image in (before, after):
        if applied is not None and image.xid == applied.xid:
            return _cause(image, written)
    return _Judgement.CHANGING


def _cause(read: _Image, written: _Image) -> Cause:
    if read.hash is None:
        return Cause.SURPLUS
    return Cause.MISSING if written.hash is None else Cause.DIFFERENT


def _counts(projection: Projection, tenants: Sequence[str] | None) -> bool:
    """Whether an entity's rows are among those asked for: shared and reference rows go with the shared name."""
    return tenants is None or projection.scope is Scope.TENANT or SHARED in tenants


def _parts(suspects: Sequence[_Suspect]) -> Iterable[list[_Suspect]]:
    for start in range(0, len(suspects), _AT_ONCE):
        yield list(suspects[start : start + _AT_ONCE])
