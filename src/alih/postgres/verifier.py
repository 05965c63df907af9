"""Compares both databases through the mapping while writes go on, without a false difference.

First both sides hash all their rows (`scanning`), each in its own time; what differs then may have changed in between.
These suspects are looked at by key, both sides at one position of the log (`looking`): different there is different for
good. A row that changes too fast for that is looked at again, and in the end undecided, which is never clean.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from psycopg import AsyncConnection
from psycopg.types.json import Jsonb

from alih.errors import NeedsOperator, Retryable
from alih.model.change import Lsn
from alih.model.contract import Scope
from alih.model.finding import MOST_FINDINGS, Finding, Image, Verdict, finding
from alih.model.projection import Direction, Projection
from alih.model.side import SHARED
from alih.postgres import changed, positions
from alih.postgres.comparison import PINNED, VECTOR
from alih.postgres.looking import Looking
from alih.postgres.positions import Applied
from alih.postgres.scanning import Key, Scan, Suspect, both

Connection = AsyncConnection[tuple[Any, ...]]

_ATTEMPTS = 200
_ASK_AGAIN_S, _ASK_AGAIN_MOST_S = 0.001, 0.05
_AT_ONCE = 1_000  # keys looked at in one query
_APPLIED_WITHIN_S = 60.0


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
        """Pin how values are printed, and try whether both servers hash alike; once. Raises NeedsOperator if not."""
        for connection in (self._reads, self._writes):
            for setting in PINNED:
                await connection.execute(setting)
        here, there = await both(_vector(self._reads), _vector(self._writes))
        if here[1:] != there[1:]:
            raise NeedsOperator(
                f"the two servers do not hash values alike: {here[0]} and {there[0]}",
                remedy="verify between servers of one version, encoding and byte order; report the two versions",
            )

    async def everything(self, tenants: Sequence[str] | None = None) -> Verdict:
        """Compare all rows (of these tenants), then forget the changed keys that this has covered. Raises Retryable
        while a table is being copied."""
        await self._copied()
        position = await self._caught_up()
        rows, findings, undecided = 0, list[Finding](), 0
        for projection in self._projections:
            if not _counts(projection, tenants):
                continue
            scan = Scan(projection, self._reads, self._writes, tenants)
            async for suspects in scan.suspects():
                found, left = await self._settled(projection, suspects)
                findings, undecided = findings + found, undecided + left
                if len(findings) >= MOST_FINDINGS:
                    break
            rows += scan.rows
        return await self._closed(position, tenants, rows, findings, undecided)

    async def recent_changes(self, tenants: Sequence[str]) -> Verdict:
        """Compare, while writes go on, the keys of these tenants that changed since they were last verified, then
        forget them: what is left for the verification inside a hold is what changes from here on."""
        position = await self._caught_up()
        rows, findings, undecided = 0, list[Finding](), 0
        for projection, suspects in await self._changed(tenants):
            found, left = await self._settled(projection, suspects)
            rows, findings, undecided = rows + len(suspects), findings + found, undecided + left
        return await self._closed(position, tenants, rows, findings, undecided)

    async def of(self, findings: Iterable[Finding]) -> Verdict:
        """Compare the rows of these findings once more, while writes go on."""
        position = await self._caught_up()
        keys = {(each.entity, each.key) for each in findings}
        found, undecided = list[Finding](), 0
        for projection in self._projections:
            mine = [Suspect(key, None) for entity, key in keys if entity == projection.entity]
            settled, left = await self._settled(projection, mine)
            found, undecided = found + settled, undecided + left
        return Verdict(rows=len(keys), findings=tuple(found), undecided=undecided, position=position)

    async def changed_keys(self, tenant: str) -> Verdict:
        """Compare exactly the keys of a fenced, caught-up tenant that changed since they were last verified."""
        changed_rows = await self._changed([tenant])
        findings: list[Finding] = []
        for projection, suspects in changed_rows:
            for part in _parts(suspects):
                here, there = await self._looking(projection).still(part)
                findings += _differing(projection, part, here, there)
        return Verdict(
            rows=sum(len(suspects) for _, suspects in changed_rows),
            findings=tuple(findings),
            undecided=0,
            position=await self._applied.position(),
        )

    async def pending(self, tenant: str) -> int:
        """How many keys of a tenant the verification inside its hold would have to compare now."""
        return sum(len(suspects) for _, suspects in await self._changed([tenant]))

    async def record(self, verdict: Verdict) -> None:
        """Keep the verdict where alih status finds it: keys, never values."""
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
                Jsonb([each.document() for each in verdict.findings]),
                str(verdict.position),
            ),
        )

    async def last(self) -> Verdict | None:
        """The verdict that was recorded last."""
        cursor = await self._writes.execute(
            "SELECT row_count, findings, undecided, position::text FROM alih.verdict WHERE direction = %s",
            (self._direction.value,),
        )
        row = await cursor.fetchone()
        if row is None:
            return None
        found = tuple(Finding.of(each) for each in row[1])
        return Verdict(rows=row[0], findings=found, undecided=row[2], position=Lsn.parse(row[3]))

    async def _closed(
        self,
        position: Lsn,
        tenants: Sequence[str] | None,
        rows: int,
        findings: Sequence[Finding],
        undecided: int,
    ) -> Verdict:
        """The verdict. If it is clean, what it covers is forgotten, and whoever looks at this moment is told."""
        verdict = Verdict(rows=rows, findings=tuple(findings[:MOST_FINDINGS]), undecided=undecided, position=position)
        if verdict.clean:
            async with self._writes.transaction():
                await self._writes.execute(
                    "INSERT INTO alih.verified (direction, position) VALUES (%s, %s) ON CONFLICT (direction) DO UPDATE"
                    " SET position = greatest(verified.position, excluded.position), times = verified.times + 1",
                    (self._direction.value, str(position)),
                )
                await changed.forget(self._writes, self._direction, position, tenants)
        return verdict

    # --- suspects -------------------------------------------------------------------------------------------

    async def _settled(self, projection: Projection, suspects: Sequence[Suspect]) -> tuple[list[Finding], int]:
        """The mismatches among the suspects, and how many could not be decided."""
        findings: list[Finding] = []
        undecided = 0
        for part in _parts(suspects):
            found, left = await self._settle(projection, part)
            findings, undecided = findings + found, undecided + left
        return findings, undecided

    async def _settle(self, projection: Projection, suspects: list[Suspect]) -> tuple[list[Finding], int]:
        """Look until each suspect is either equal or a mismatch, within bounds."""
        looking = self._looking(projection)
        findings: list[Finding] = []
        for attempt in range(_ATTEMPTS):
            suspects = await looking.located(suspects)
            read = await looking.read(suspects)
            async with looking.held(read, suspects) as held:
                differing = _differing(projection, suspects, read.rows, held.rows)
            findings += [each for each in differing if each.key in held.settled - held.away]
            open_keys = {each.key for each in differing} - held.settled - held.away
            suspects = [s for s in suspects if s.write_key in open_keys]
            if not suspects:
                break
            await asyncio.sleep(min(_ASK_AGAIN_S * attempt, _ASK_AGAIN_MOST_S))
        return findings, len(suspects)

    def _looking(self, projection: Projection) -> Looking:
        return Looking(projection, self._reads, self._writes, self._applied)

    async def _changed(self, tenants: Sequence[str]) -> list[tuple[Projection, list[Suspect]]]:
        """The changed keys of each entity that has any, in one query: somebody may be waiting."""
        found = await changed.of_tenants(self._writes, self._direction, tenants)
        return [
            (p, [Suspect(key.write_key, key.read_key) for key in found[p.entity]])
            for p in self._projections
            if p.entity in found
        ]

    # --- positions ------------------------------------------------------------------------------------------

    async def _copied(self) -> None:
        cursor = await self._writes.execute(
            "SELECT DISTINCT entity FROM alih.chunk WHERE direction = %s AND state <> 'done' AND row_key IS NULL"
            " ORDER BY 1",
            (self._direction.value,),
        )
        if missing := [entity for (entity,) in await cursor.fetchall()]:
            raise Retryable(f"not copied yet: {', '.join(missing)}", remedy="wait until alih status says done")

    async def _caught_up(self) -> Lsn:
        """Have the stream apply all that the reading side has now, and say up to where that was."""
        position = await positions.cut(self._reads)
        await self._applied.reached(position, _APPLIED_WITHIN_S)
        return position

    @property
    def _direction(self) -> Direction:
        return self._projections[0].direction


async def _vector(connection: Connection) -> tuple[Any, ...]:
    """Which server it is, and what it makes of known values."""
    ((*hashes,),) = await (await connection.execute(VECTOR)).fetchall()
    encoding = connection.info.parameter_status("server_encoding")
    return (f"PostgreSQL {connection.info.parameter_status('server_version')} ({encoding})", *hashes)


def _differing(
    projection: Projection, suspects: Iterable[Suspect], here: Mapping[Key, Image], there: Mapping[Key, Image]
) -> list[Finding]:
    columns = [a.column for a in projection.assignments]
    found = (
        finding(projection.entity, key, columns, here.get(key), there.get(key))
        for key in (s.write_key for s in suspects)
    )
    return [each for each in found if each is not None]


def _counts(projection: Projection, tenants: Sequence[str] | None) -> bool:
    """Whether an entity's rows are among those asked for: shared and reference rows go with the shared name."""
    return tenants is None or projection.scope is Scope.TENANT or SHARED in tenants


def _parts(suspects: Sequence[Suspect]) -> Iterable[list[Suspect]]:
    for start in range(0, len(suspects), _AT_ONCE):
        yield list(suspects[start : start + _AT_ONCE])
