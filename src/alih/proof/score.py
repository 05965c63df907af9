"""How far the move is, computed from evidence entries and nothing else: whoever has the bundle gets the same figure.

Three groups with weights in percent; a group is the mean of its fractions; each fraction counts things that stand in
entries and names their numbers. Exact until it is printed.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from typing import Any

from alih.evidence.canonical import Json
from alih.evidence.entry import Entry
from alih.model.side import SHARED, Side

WEIGHTS: Mapping[str, int] = {"payment": 60, "data": 20, "merchant": 20}
"""Percent of each group, where no entry says otherwise."""

_CENT = Decimal("0.01")
_FULL = Decimal(100)

Leaf = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """`numerator` of `denominator` things hold; `evidence` are the numbers of the leaves that say so. With nothing to
    count (0 of 0) its value is 0: what was not measured does not count."""

    name: str
    numerator: int
    denominator: int
    evidence: tuple[int, ...]

    @property
    def value(self) -> Fraction:
        return Fraction(self.numerator, self.denominator) if self.denominator else Fraction(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Fractions of one kind, and what they weigh together, in percent."""

    name: str
    weight: int
    parts: tuple[Part, ...]

    @property
    def value(self) -> Fraction:
        """The mean of the fractions, from 0 to 1."""
        return sum((part.value for part in self.parts), Fraction(0)) / len(self.parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """The score after the first `up_to` leaves."""

    groups: tuple[Group, ...]
    up_to: int

    @property
    def total(self) -> Fraction:
        """From 0 to 100."""
        return sum((group.weight * group.value for group in self.groups), Fraction(0))

    @property
    def formula(self) -> str:
        """The whole sum, to be checked with a pocket calculator."""
        terms = (f"{group.weight} × ({_sum(group)}) / {len(group.parts)}" for group in self.groups)
        return f"{' + '.join(terms)} = {percent(self.total)}"

    def facts(self) -> dict[str, Json]:
        """As the entry says it and `alih score --json` prints it: each group, and the total, from 0 to 100."""
        each = {group.name: percent(group.value * 100) for group in self.groups}
        groups: list[Json] = [_group(group) for group in self.groups]
        return {**each, "total": percent(self.total), "formula": self.formula, "groups": groups, "up_to": self.up_to}

    def entry(self) -> Entry:
        """For the evidence."""
        return Entry("score", self.facts())


def percent(value: Fraction) -> str:
    """Two decimals, halves up; but what is not complete never reads 100.00."""
    rounded = (Decimal(value.numerator) / Decimal(value.denominator)).quantize(_CENT, ROUND_HALF_UP)
    return str(_FULL - _CENT if value < _FULL <= rounded else rounded)


def _sum(group: Group) -> str:
    return " + ".join(f"{part.name} {part.numerator}/{part.denominator}" for part in group.parts)


def _group(group: Group) -> Json:
    parts: list[Json] = [
        {
            "name": part.name,
            "numerator": part.numerator,
            "denominator": part.denominator,
            "evidence": list(part.evidence),
        }
        for part in group.parts
    ]
    return {"name": group.name, "weight": group.weight, "fractions": parts}


def score(entries: Sequence[Leaf]) -> Score:
    """The score by these leaves, in their order from the first. Without a `migration` entry nothing is counted."""
    log = _Log(entries)
    weights = log.weights
    return Score(
        groups=(
            Group(name="payment", weight=weights["payment"], parts=(log.recorded(), log.tried())),
            Group(name="data", weight=weights["data"], parts=(log.verified(), log.shared())),
            Group(name="merchant", weight=weights["merchant"], parts=(log.moved(),)),
        ),
        up_to=len(entries),
    )


@dataclass(slots=True)
class _Stand:
    """Where one tenant stands. `flipped` is the leaf by which the target got it, `caught_up` the one that says that
    everything before that flip had been applied and the changed keys were found equal."""

    side: str = Side.SOURCE
    flipped: int = -1
    caught_up: int | None = None

    def follow(self, leaf: Leaf) -> None:
        if leaf["phase"] == "caughtup":
            self.caught_up = leaf["n"]
        if leaf["side"] == self.side:
            return
        self.side, self.flipped = leaf["side"], leaf["n"]
        if self.side == Side.SOURCE:
            self.caught_up = None


class _Log:
    """Leaves, asked for what is counted."""

    def __init__(self, entries: Sequence[Leaf]) -> None:
        self._kinds: dict[str, list[Leaf]] = defaultdict(list)
        for leaf in entries:
            self._kinds[leaf["kind"]].append(leaf)
        self._stands: dict[str, _Stand] = defaultdict(_Stand)
        for leaf in self._kinds["state"]:
            self._stands[leaf["tenant"]].follow(leaf)
        migration = self._last("migration") or {"tenants": {}, "test_tenants": {}}
        self._tenants = sorted(tenant for tenants in migration["tenants"].values() for tenant in tenants)
        self._tested: Mapping[str, str] = migration["test_tenants"]

    def _last(self, kind: str) -> Leaf | None:
        return self._kinds[kind][-1] if self._kinds[kind] else None

    @property
    def weights(self) -> Mapping[str, int]:
        rules = self._last("rules")
        return rules["weights"] if rules else WEIGHTS

    def recorded(self) -> Part:
        """Tenants of the target whose money the last reconciliation, made after their flip, explains."""
        last = self._last("reconciliation")
        if last is None:
            return self._of_tenants("recorded", {})
        open_ = {each["tenant"] for each in last["unexplained"]}
        explained = {t: n for t, n in self._arrived().items() if n < last["n"] and t not in open_}
        return self._of_tenants("recorded", explained, last["n"])

    def tried(self) -> Part:
        """Cohorts whose last purchase after the flip of their test tenant passed, while the target has it."""
        passed = []
        for cohort, tenant in self._tested.items():
            stand = self._stands[tenant]
            last = [t for t in self._kinds["trial"] if (t["cohort"], t["moment"]) == (cohort, "after")][-1:]
            if stand.side == Side.TARGET:
                passed += [t["n"] for t in last if t["passed"] and t["n"] > stand.flipped]
        return Part(name="tried", numerator=len(passed), denominator=len(self._tested), evidence=tuple(sorted(passed)))

    def verified(self) -> Part:
        """Tenants of the target that were caught up before their flip, while no row differs in what was verified last.
        (Rows are not told apart by tenant there: one that differs, or could not be decided, counts against all.)"""
        last = self._verifications()
        whole = any(v["scope"] == "all" for v in last)
        if not whole or any(v["findings"] or v["undecided"] for v in last):
            return self._of_tenants("verified", {})
        caught_up = {t: self._stands[t].caught_up for t in self._arrived()}
        seen = {t: n for t, n in caught_up.items() if n is not None}
        return self._of_tenants("verified", seen, *(v["n"] for v in last))

    def _verifications(self) -> list[Leaf]:
        """In each direction the last one of all rows, and those of some rows that came after it."""
        standing: dict[str, list[Leaf]] = {}
        for verification in self._kinds["verification"]:
            before = [] if verification["scope"] == "all" else standing.get(verification["direction"], [])
            standing[verification["direction"]] = [*before, verification]
        return [verification for last in standing.values() for verification in last]

    def shared(self) -> Part:
        """Whether the target has the shared rows."""
        stand = self._stands[SHARED]
        moved = stand.side == Side.TARGET
        return Part(name="shared", numerator=int(moved), denominator=1, evidence=(stand.flipped,) if moved else ())

    def moved(self) -> Part:
        """Tenants of the target."""
        return self._of_tenants("moved", self._arrived())

    def _arrived(self) -> dict[str, int]:
        """The target's tenants, each with the leaf of its flip."""
        return {t: self._stands[t].flipped for t in self._tenants if self._stands[t].side == Side.TARGET}

    def _of_tenants(self, name: str, leaves: Mapping[str, int], *common: int) -> Part:
        """Each tenant counts by a leaf of its own; `common` are leaves that all of them stand on."""
        evidence = sorted({*leaves.values(), *common}) if leaves else []
        return Part(name=name, numerator=len(leaves), denominator=len(self._tenants), evidence=tuple(evidence))
