"""The score against sums made by hand; it moves only by what stands in an entry."""

import json
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from alih.proof.score import Score, score

MIGRATION = {
    "kind": "migration",
    "tenants": {"first": ["1"], "tenth": ["2", "3"], "rest": ["4", "5", "6", "7", "8", "9", "10"]},
    "test_tenants": {"first": "91", "tenth": "92", "rest": "93"},
}


def numbered(*entries: dict[str, Any] | Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    flat = [e for each in entries for e in ([each] if isinstance(each, dict) else each)]
    return [{"n": n, "at": "2024-01-01T00:00:00.000Z", **entry} for n, entry in enumerate(flat)]


def state(tenant: str, phase: str, side: str) -> dict[str, Any]:
    return {"kind": "state", "tenant": tenant, "phase": phase, "epoch": 1, "side": side, "cut": None}


def moved(*tenants: str) -> list[dict[str, Any]]:
    phases = (("caughtup", "source"), ("flipped", "target"), ("soaking", "target"))
    return [state(tenant, phase, side) for tenant in tenants for phase, side in phases]


def back(tenant: str) -> list[dict[str, Any]]:
    phases = (("caughtup", "target"), ("flipped", "source"), ("soaking", "source"))
    return [state(tenant, phase, side) for phase, side in phases]


def trial(cohort: str, moment: str = "after", *, passed: bool = True) -> dict[str, Any]:
    return {"kind": "trial", "cohort": cohort, "tenant": "9", "moment": moment, "passed": passed}


def reconciliation(*unexplained: str) -> dict[str, Any]:
    return {"kind": "reconciliation", "unexplained": [{"tenant": tenant} for tenant in unexplained]}


def verification(
    findings: int = 0, undecided: int = 0, direction: str = "forward", scope: str = "all"
) -> dict[str, Any]:
    return {
        "kind": "verification",
        "scope": scope,
        "findings": findings,
        "undecided": undecided,
        "direction": direction,
    }


def parts(found: Score) -> dict[str, str]:
    return {part.name: f"{part.numerator}/{part.denominator}" for group in found.groups for part in group.parts}


AFTER_TWO = (
    MIGRATION,
    verification(),
    trial("first", "before"),
    moved("91", "1"),
    trial("first"),
    moved("92", "2", "3"),
    trial("tenth", "during"),
    trial("tenth"),
    reconciliation(),
)
EVERYTHING = (
    *AFTER_TWO,
    moved("93", *"456789", "10"),
    trial("rest"),
    moved("@shared"),
    verification(direction="reverse"),
    reconciliation(),
)


def test_it_is_zero_at_the_start() -> None:
    assert score([]).total == 0
    found = score(numbered(MIGRATION, state("1", "planned", "source"), verification(), reconciliation()))
    assert parts(found) == {"recorded": "0/10", "tried": "0/3", "verified": "0/10", "shared": "0/1", "moved": "0/10"}
    assert found.total == 0
    assert all(part.evidence == () for group in found.groups for part in group.parts)


def test_after_two_cohorts_it_is_the_sum_made_by_hand() -> None:
    found = score(numbered(*AFTER_TWO))
    assert parts(found) == {"recorded": "3/10", "tried": "2/3", "verified": "3/10", "shared": "0/1", "moved": "3/10"}
    # 60 × (3/10 + 2/3) / 2 = 29; 20 × (3/10 + 0) / 2 = 3; 20 × 3/10 = 6
    assert found.total == 38
    assert found.formula == (
        "60 × (recorded 3/10 + tried 2/3) / 2 + 20 × (verified 3/10 + shared 0/1) / 2 + 20 × (moved 3/10) / 1 = 38.00"
    )
    facts = found.facts()
    assert [facts[name] for name in ("payment", "data", "merchant", "total")] == ["48.33", "15.00", "30.00", "38.00"]
    assert facts["up_to"] == len(numbered(*AFTER_TWO))


def test_each_fraction_names_the_leaves_that_it_stands_on() -> None:
    leaves = numbered(*AFTER_TWO)
    found = {part.name: part.evidence for group in score(leaves).groups for part in group.parts}
    flips = [e["n"] for e in leaves if e.get("phase") == "flipped" and e["tenant"] in "123"]
    caught_up = [e["n"] for e in leaves if e.get("phase") == "caughtup" and e["tenant"] in "123"]
    trials = [e["n"] for e in leaves if e["kind"] == "trial" and e["moment"] == "after"]
    assert found == {
        "recorded": (*flips, leaves[-1]["n"]),
        "tried": tuple(trials),
        "verified": (1, *caught_up),
        "shared": (),
        "moved": tuple(flips),
    }


def test_it_is_a_hundred_at_the_end() -> None:
    found = score(numbered(*EVERYTHING))
    assert found.total == 100
    assert [found.facts()[name] for name in ("payment", "data", "merchant", "total")] == ["100.00"] * 4


def test_withholding_one_trial_lowers_it() -> None:
    withheld = [entry for entry in EVERYTHING if entry != trial("tenth")]
    assert score(numbered(*withheld)).total == 100 - Fraction(60, 2 * 3)


def test_a_later_trial_that_fails_lowers_it() -> None:
    assert score(numbered(*EVERYTHING, trial("tenth", passed=False))).total == 90
    assert score(numbered(*EVERYTHING, trial("tenth", "during", passed=False))).total == 100
    assert score(numbered(*EVERYTHING, trial("tenth", passed=False), trial("tenth"))).total == 100


def test_money_that_is_not_explained_lowers_it() -> None:
    # of ten tenants one is open: 60 × (9/10 + 1) / 2
    assert score(numbered(*EVERYTHING, reconciliation("4", "4"))).total == 97
    assert score(numbered(*EVERYTHING, reconciliation("91"))).total == 100  # a test tenant is no tenant here


def test_a_reconciliation_before_the_flip_explains_nothing() -> None:
    early: list[Any] = list(EVERYTHING[:-1])
    assert parts(score(numbered(*early)))["recorded"] == "3/10"


def test_a_row_that_differs_counts_against_all() -> None:
    assert parts(score(numbered(*EVERYTHING, verification(findings=1))))["verified"] == "0/10"
    assert parts(score(numbered(*EVERYTHING, verification(undecided=1))))["verified"] == "0/10"
    # the other direction's later verification does not take it back
    both = (*EVERYTHING, verification(findings=1), verification(direction="reverse"))
    assert parts(score(numbered(*both)))["verified"] == "0/10"
    assert score(numbered(*both, verification())).total == 100


def test_a_verification_of_some_rows_takes_nothing_back() -> None:
    some = verification(findings=1, direction="reverse", scope="first")
    clean = verification(direction="reverse", scope="rest")
    assert parts(score(numbered(*EVERYTHING, some, clean)))["verified"] == "0/10"
    assert score(numbered(*EVERYTHING, some, verification(direction="reverse"))).total == 100
    without = [entry for entry in EVERYTHING if isinstance(entry, list) or entry["kind"] != "verification"]
    assert parts(score(numbered(*without, clean)))["verified"] == "0/10"


def test_a_tenant_that_went_back_counts_no_more() -> None:
    leaves = numbered(*EVERYTHING, back("4"), reconciliation())
    expected = {"recorded": "9/10", "tried": "3/3", "verified": "9/10", "shared": "1/1", "moved": "9/10"}
    assert parts(score(leaves)) == expected
    again = numbered(*EVERYTHING, back("4"), moved("4"))
    assert parts(score(again))["recorded"] == "9/10"  # its money has to be explained anew
    assert parts(score(again))["verified"] == "10/10"


def test_a_trial_from_before_a_rollback_does_not_count() -> None:
    assert parts(score(numbered(*EVERYTHING, back("92"))))["tried"] == "2/3"
    assert parts(score(numbered(*EVERYTHING, back("92"), moved("92"))))["tried"] == "2/3"
    assert parts(score(numbered(*EVERYTHING, back("92"), moved("92"), trial("tenth"))))["tried"] == "3/3"


def test_weights_are_the_rules() -> None:
    rules = {"kind": "rules", "weights": {"payment": 50, "data": 30, "merchant": 20}}
    found = score(numbered(rules, *AFTER_TWO))
    # 50 × 29/60 + 30 × 3/20 + 20 × 3/10
    assert found.total == Fraction(145, 6) + Fraction(9, 2) + 6
    assert found.facts()["total"] == "34.67"


def test_what_is_not_complete_never_reads_a_hundred() -> None:
    many = [str(number) for number in range(1, 20_001)]
    migration = MIGRATION | {"tenants": {"all": many}}
    trials = [trial("first"), trial("tenth"), trial("rest")]
    most = (migration, verification(), moved("91", "92", "93", "@shared", *many[:-1]), trials, reconciliation())
    found = score(numbered(*most))
    assert 99.99 < found.total < 100
    assert found.facts()["total"] == "99.99"


def test_the_entry_is_the_same_whoever_reads_the_leaves() -> None:
    leaves = numbered(*EVERYTHING)
    entry = score(leaves).entry()
    assert entry.kind == "score"
    assert entry.facts == score(json.loads(json.dumps(leaves))).facts()
