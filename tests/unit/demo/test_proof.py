"""What alih itself finds wrong is named at the demo's end, each thing by name."""

from typing import Any

from demo.story.proof import Proof

TRIED: dict[str, Any] = {"cohort": "rest", "moment": "during", "passed": True, "checks": []}
RIGHT: dict[str, Any] = {
    "trials": [TRIED],
    "scores": [],
    "audit": {"missing": [], "misplaced": []},
    "reconciliation": {"unexplained": []},
    "verified": {"verified": True},
}


def wrong(**planted: Any) -> list[str]:
    return Proof(**(RIGHT | planted)).wrong


def test_nothing_is_named_when_all_is_right() -> None:
    assert wrong() == []


def test_each_thing_that_is_wrong_is_named() -> None:
    checks = [
        {"name": "price", "passed": False, "why": "shown 1, charged 2"},
        {"name": "hosts", "passed": True, "why": None},
    ]
    assert wrong(trials=[TRIED | {"passed": False, "checks": checks}]) == [
        "trial rest during: price (shown 1, charged 2)"
    ]
    assert wrong(trials=[]) == ["trial: no purchase was tried"]
    assert wrong(audit={"missing": [{"sale": "7", "missing": ["ledger", "invoice"]}], "misplaced": ["8"]}) == [
        "audit: 7 lacks ledger, invoice",
        "audit: 8 stands in the wrong ledger",
    ]
    assert wrong(reconciliation={"unexplained": [{"what": "differs", "tenant": "3"}]}) == ["money: differs in shop 3"]
    assert wrong(verified={"verified": False, "reason": "not the root"}) == ["evidence: not the root"]
