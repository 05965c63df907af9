"""One audit: read everything once, run every check, and put the figures beside the findings."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.audit import checks
from demo.audit.books import Keeper, Opening, Stores, both, provider
from demo.audit.checks import Case, Finding
from demo.audit.told import read

CHECKS = (
    checks.lost_orders,
    checks.changed_orders,
    checks.doubled_orders,
    checks.untold_orders,
    checks.differing_sides,
    checks.past_orders,
    checks.doubled_charges,
    checks.unaccounted,
    checks.stock,
    checks.unbalanced_ledgers,
    checks.other_hosts,
    checks.failed_requests,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What the audit found; `figures` has the keys of result.json that are the audit's to fill."""

    figures: Mapping[str, Any]
    findings: tuple[Finding, ...]

    @property
    def clean(self) -> bool:
        return not self.findings


async def audit(
    diary: Path,
    stores: Stores,
    opening: Opening,
    owners: Mapping[str, Keeper] | None = None,
    *,
    stray_writes: Sequence[str] = (),
    shape_differences: Sequence[str] = (),
) -> Audit:
    """Audit a finished load. The streams between the sides have to be idle: both sides are held against the diary.

    `owners` names the shops that are not (or no longer) at the marketplace; `stray_writes` and `shape_differences`,
    found by others, become findings so that they fail the demo in one place.
    """
    case = Case(
        told=read(diary),
        books=await both(stores),
        collected=await provider(stores.provider),
        opening=opening,
        owners=owners or {},
    )
    given = (*_given("stray write", stray_writes), *_given("shape", shape_differences))
    findings = (*(finding for check in CHECKS for finding in check(case)), *given)
    return Audit(figures=_figures(case, findings, len(stray_writes)), findings=findings)


def _given(kind: str, whats: Sequence[str]) -> Iterator[Finding]:
    for what in whats:
        yield Finding(kind=kind, subject=what.partition(":")[0], what=what)


def _figures(case: Case, findings: Sequence[Finding], stray_writes: int) -> dict[str, Any]:
    told, requests = case.told, case.told.requests
    failed = requests["failed"] + len(told.contradictions)
    return {
        "requests": {
            "total": requests.total(),
            "succeeded": requests.total() - failed,
            "failed": failed,
            "refused": requests["refused"],
        },
        "orders": {
            "told": len(told.orders),
            "recorded": len(told.orders) - len(_subjects(findings, "order lost", "order amount")),
            "lost": len(_subjects(findings, "order lost", "past order lost")),
            "doubled": len(_subjects(findings, "order doubled")),
        },
        "charges": {
            "attempted": sum(told.charge_attempts.values()),
            "doubled": len(_subjects(findings, "charge doubled", "booking doubled")),
            "unaccounted_idr": sum(finding.idr for finding in findings),
        },
        "past_orders": {
            "seeded": len(case.opening.orders),
            **{str(keeper): _present(case, keeper) for keeper in case.books},
        },
        "stray_writes": stray_writes,
        "hosts_visited": len(told.called | told.hosts.keys()),
        "findings": len(findings),
    }


def _present(case: Case, keeper: Keeper) -> int:
    return len(case.opening.orders.keys() & case.books[keeper].orders.keys())


def _subjects(findings: Sequence[Finding], *kinds: str) -> set[str]:
    return {finding.subject for finding in findings if finding.kind in kinds}
