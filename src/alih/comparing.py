"""`alih verify` and `alih repair`: each tenant's rows are compared, and mended, in the direction that leads away from
its owner."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from alih import app
from alih.app import Migration
from alih.config import Environment
from alih.errors import NeedsOperator
from alih.evidence.entry import Entry
from alih.model.finding import MOST_FINDINGS, Finding, Verdict
from alih.model.projection import Direction
from alih.postgres.control import Control
from alih.postgres.line import Line


async def verify(path: Path, environment: Environment) -> dict[str, Any]:
    """Compare all rows and keep the verdict. In the answer stand the findings, and `exit_code`: 69 if rows differ."""
    async with app.opened(path, environment) as migration:
        verdicts = [await _verified(migration, direction) for direction in migration.directions]
    return _document(verdicts)


async def repair(path: Path, environment: Environment) -> dict[str, Any]:
    """Mend the rows that the last verification found, compare them again, and keep what is left of its verdict. The
    answer is `verify`'s about these rows, with how many were mended."""
    verdicts, mended = [], 0
    async with app.opened(path, environment) as migration:
        for direction in migration.directions:
            done, verdict = await _repaired(migration, direction, environment.account)
            mended += len(done)
            verdicts.append(verdict)
    return {"mended": mended} | _document([each for each in verdicts if each is not None])


async def _verified(migration: Migration, direction: Direction) -> Verdict:
    tenants = None
    if "control" in migration.dsns:
        async with Line(migration.dsns["control"], "the control database") as line:
            tenants = await Control(line).owned_by(direction.reads)
    async with migration.engine(direction).verifier() as verifier:
        verdict = await verifier.everything(tenants)
        await verifier.record(verdict)
    if "control" in migration.dsns:
        async with Line(migration.dsns["control"], "the control database") as line:
            await Control(line).record_verdict(verdict, direction)
    return verdict


async def _repaired(
    migration: Migration, direction: Direction, account: str
) -> tuple[Sequence[Finding], Verdict | None]:
    async with migration.engine(direction).repair(account) as (repairing, verifier):
        last = await verifier.last()
        if last is None or not last.findings:
            return (), last
        done = await repairing.mend(last.findings)
        again = await verifier.of(last.findings)
        if len(last.findings) < MOST_FINDINGS:  # where there are as many, there may be more
            undecided = last.undecided + again.undecided
            left = Verdict(rows=last.rows, findings=again.findings, undecided=undecided, position=again.position)
            await verifier.record(left)
    if "control" in migration.dsns:
        async with Line(migration.dsns["control"], "the control database") as line:
            await Control(line).record(_entry(direction, done, again, account))
    return done, again


def _entry(direction: Direction, done: Iterable[Finding], again: Verdict, account: str) -> Entry:
    """What the evidence says of a repair: how many rows of which entity, and for which cause. Their keys stay in the
    writing side's database: one could lead to a person."""
    counts: dict[str, dict[str, int]] = {}
    for each in done:
        of_entity = counts.setdefault(each.entity, {})
        of_entity[each.cause.value] = of_entity.get(each.cause.value, 0) + 1
    left = {"findings": len(again.findings), "undecided": again.undecided}
    where = {"direction": direction.value, "position": str(again.position), "by": account}
    return Entry("repair", {**where, "mended": counts, **left})


def _document(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    findings = [each.document() for verdict in verdicts for each in verdict.findings]
    clean = all(verdict.clean for verdict in verdicts)
    return {
        "exit_code": 0 if clean else NeedsOperator.exit_code,
        "rows": sum(verdict.rows for verdict in verdicts),
        "mismatches": len(findings),
        "undecided": sum(verdict.undecided for verdict in verdicts),
        "findings": findings,
    }
