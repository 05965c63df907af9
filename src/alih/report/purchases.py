"""The purchases that were tried: how many, where the money went, how long each click took, and what failed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median_low

from alih.report.figures import Figures
from alih.report.log import Entry, Items, Log

MOMENTS = ("before", "during", "after")
AMOUNTS = ("shown", "ordered", "charged", "settled", "refunded")
_FAILED_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    name: str
    key: str
    ms: int
    status: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    name: str
    passed: bool
    why: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """One purchase. `slowest_ms` is that of its slowest click."""

    key: str
    tenant: str
    cohort: str
    moment: str
    side: str | None
    payee: str | None
    hosts: Sequence[str]
    steps: Sequence[Step]
    checks: Sequence[Check]

    @property
    def failed(self) -> Sequence[Check]:
        return [check for check in self.checks if not check.passed]

    @property
    def slowest_ms(self) -> int:
        return max((step.ms for step in self.steps), default=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A cohort at a moment. `run` 0: not tried then."""

    key: str
    run: int
    passed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """How long the Shop tab took to open (the lower median, ms); `ms` None: not tried then."""

    moment: str
    key: str
    ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchases:
    """`cohorts` are those with a test shop; `examples` are the last purchases after the flip, one for each cohort."""

    run: int
    failures: int
    after: int
    cohorts: Mapping[str, Sequence[Cell]]
    pauses: Sequence[Pause]
    examples: Sequence[Tried]
    failed: Sequence[Tried]
    failed_unshown: int


def purchases(log: Log, figures: Figures) -> Purchases:
    trials = log.of("trial")
    after = [entry for entry in trials if entry["moment"] == "after"]
    failed = [entry for entry in trials if not entry["passed"]]
    examples = [entry for cohort in log.test_cohorts if (entry := _last(after, cohort))]
    _totals(log, trials, after, examples, figures)
    shown = {entry["n"]: entry for entry in [*examples, *failed[-_FAILED_SHOWN:]]}
    tried = {n: _tried(entry, figures) for n, entry in shown.items()}
    figures.count("trials", unshown=max(0, len(failed) - _FAILED_SHOWN))
    return Purchases(
        run=len(trials),
        failures=len(failed),
        after=len(after),
        cohorts={cohort: [_cell(trials, cohort, moment, figures) for moment in MOMENTS] for cohort in log.test_cohorts},
        pauses=[_pause(trials, moment, figures) for moment in MOMENTS],
        examples=[tried[entry["n"]] for entry in examples],
        failed=[tried[entry["n"]] for entry in failed[-_FAILED_SHOWN:]],
        failed_unshown=max(0, len(failed) - _FAILED_SHOWN),
    )


def _last(trials: Items, cohort: str) -> Entry | None:
    return next((entry for entry in reversed(trials) if entry["cohort"] == cohort), None)


def _totals(log: Log, trials: Items, after: Items, examples: Items, figures: Figures) -> None:
    payee = log.migration["payees"]["target"]
    passed = sum(entry["passed"] for entry in trials)
    figures.count("trials", run=len(trials), passed=passed, failed=len(trials) - passed)
    figures.count("trials", cohorts=len(log.test_cohorts), cohorts_passed=sum(entry["passed"] for entry in examples))
    figures.count("trials", after=len(after), after_payee=sum(entry["payee"] == payee for entry in after))
    figures.count("trials", after_passed=sum(entry["passed"] for entry in after))
    figures.count("trials", after_recorded=sum(entry["side"] == "target" for entry in after))
    figures.count("trials", hosts=len({host for entry in trials for host in entry["hosts"]}))


def _cell(trials: Items, cohort: str, moment: str, figures: Figures) -> Cell:
    here = [entry for entry in trials if (entry["cohort"], entry["moment"]) == (cohort, moment)]
    passed = sum(entry["passed"] for entry in here)
    key = f"trials.{cohort}.{moment}"
    figures.count(key, run=len(here), passed=passed)
    return Cell(key=key, run=len(here), passed=passed)


def _pause(trials: Items, moment: str, figures: Figures) -> Pause:
    times = [entry["tab_ms"] for entry in trials if entry["moment"] == moment and entry["tab_ms"] is not None]
    key, ms = f"tab.{moment}", median_low(times) if times else None
    figures.count(key, tries=len(times))
    figures.duration(key, ms=ms)
    return Pause(moment=moment, key=key, ms=ms)


def _tried(entry: Entry, figures: Figures) -> Tried:
    key = f"trial.{entry['n']}"
    figures.moment(key, at=entry["at"])
    figures.rupiah(key, **{name: entry["amounts"].get(name) for name in AMOUNTS})
    steps = [
        Step(name=step["name"], key=f"{key}.step.{place}", ms=step["ms"], status=step["status"])
        for place, step in enumerate(entry["steps"], 1)
    ]
    for step in steps:
        figures.duration(step.key, ms=step.ms)
    return Tried(
        key=key,
        tenant=entry["tenant"],
        cohort=entry["cohort"],
        moment=entry["moment"],
        side=entry["side"],
        payee=entry["payee"],
        hosts=entry["hosts"],
        steps=steps,
        checks=[Check(name=c["name"], passed=c["passed"], why=c["why"]) for c in entry["checks"]],
    )
