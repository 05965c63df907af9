"""One audit: read everything once, run every check, and put the figures beside the findings."""

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.audit.books import Opening, Stores, both, provider
from demo.audit.checks import CHECKS, Case, Finding, Line


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What the audit found; `figures` has the keys of result.json that are the audit's to fill."""

    figures: Mapping[str, Any]
    findings: tuple[Finding, ...]


async def audit(
    diary: Path,
    stores: Stores,
    opening: Opening,
    *,
    test_shops: Collection[str] = (),
    stray_writes: Sequence[str] = (),
    shape_differences: Sequence[str] = (),
) -> Audit:
    """Audit a finished load. The streams between the sides have to be idle: both sides are held against the diary.

    What was bought in the `test_shops` was told to no shopper; its money and stock are checked all the same.
    `stray_writes` and `shape_differences`, found by others, become findings so that they fail the demo in one place.
    """
    books, collected = await both(stores), await provider(stores.provider)
    case = Case(told=_read(diary), books=books, collected=collected, opening=opening, test_shops=test_shops)
    given = [("stray write", what) for what in stray_writes] + [("shape", what) for what in shape_differences]
    findings = (
        *(finding for check in CHECKS for finding in check(case)),
        *(Finding(kind, what.partition(":")[0], what) for kind, what in given),
    )
    return Audit(figures=_figures(case, findings, len(stray_writes)), findings=findings)


def _read(diary: Path) -> Mapping[str, list[Line]]:
    """The diary's lines by kind; a last line cut short by a crash is an error, or half of it would be judged by."""
    lines: defaultdict[str, list[Line]] = defaultdict(list)
    with diary.open(encoding="utf-8") as file:
        for line in map(json.loads, file):
            lines[line["kind"]].append(line)
    return lines


def _figures(case: Case, findings: Sequence[Finding], stray_writes: int) -> dict[str, Any]:
    told = case.told
    verdicts = Counter(line["verdict"] for line in told["request"])
    failed = verdicts["failed"] + len(told["contradiction"])
    orders = {line["order_id"] for line in told["order"]}
    return {
        "requests": {
            "total": verdicts.total(),
            "succeeded": verdicts.total() - failed,
            "failed": failed,
            "refused": verdicts["refused"],
        },
        "orders": {
            "told": len(orders),
            "recorded": len(orders - _subjects(findings, "order lost", "order amount")),
            "lost": len(_subjects(findings, "order lost", "past order lost")),
            "doubled": len(_subjects(findings, "order doubled")),
        },
        "charges": {
            "attempted": sum(line["what"] == "payment" for line in told["attempt"]),
            "doubled": len(_subjects(findings, "charge doubled", "booking doubled")),
            "unaccounted_idr": sum(finding.idr for finding in findings),
        },
        "refunds": {
            "told": len(told["refund"]),
            "recorded": len(told["refund"]) - len(_subjects(findings, "refund lost")),
            "different": len(_subjects(findings, "refunds differ")),
        },
        "past_orders": {
            "seeded": len(case.opening.orders),
            **{str(keeper): len(case.opening.orders.keys() & books.orders) for keeper, books in case.books.items()},
        },
        "stray_writes": stray_writes,
        "hosts_visited": len({line["host"] for line in told["request"] + told["host"]}),
        "findings": len(findings),
    }


def _subjects(findings: Sequence[Finding], *kinds: str) -> set[str]:
    return {finding.subject for finding in findings if finding.kind in kinds}
