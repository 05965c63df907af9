"""How far the move is: score, cohorts, the course of both over time, and who asked for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction

from alih.report.figures import Figures
from alih.report.log import SHARED, Entry, Log

_CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A fraction of a group: `done` of `of`, and the leaf numbers that it stands on."""

    name: str
    key: str
    done: int
    of: int
    entries: Sequence[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A group of the score. `share` is how much of it is done, from 0 to 1."""

    name: str
    key: str
    weight: int
    share: float
    parts: Sequence[Part]


@dataclass(frozen=True, slots=True, kw_only=True)
class CohortRow:
    """A cohort; `first` and `last` are its flips, None before the first."""

    name: str
    key: str
    first: str | None
    last: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A score on record."""

    key: str
    at: str
    total: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What a person asked for, and how it ended (`exit_code` None: no answer on record)."""

    key: str
    words: str
    by: str
    exit_code: int | None
    aborted: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """`groups` are empty while no score is on record. `deadline` is ISO 8601, or None."""

    groups: Sequence[Group]
    formula: str
    cohorts: Sequence[CohortRow]
    shared: CohortRow
    scores: Sequence[Scored]
    commands: Sequence[Command]
    begins: str
    ends: str
    deadline: str | None
    overdue: bool


def progress(log: Log, figures: Figures) -> Progress:
    begins, ends = log.entries[0]["at"], log.entries[-1]["at"]
    figures.count("entries", total=len(log.entries), states=len(log.of("state")))
    figures.count("commands", total=len(log.of("approval")))
    figures.moment("entries", first=begins, last=ends)
    figures.count("shops", total=len(log.tenants), moved=log.moved(log.tenants))
    score = log.last("score")
    deadline = _deadline(log, ends, figures)
    return Progress(
        groups=_groups(score, figures) if score else (),
        formula=score["formula"] if score else "",
        cohorts=[_cohort(log, name, figures) for name in log.cohorts],
        shared=_flips("@shared", "shared", [SHARED], log, figures),
        scores=_scores(log, figures),
        commands=_commands(log, figures),
        begins=begins,
        ends=ends,
        deadline=deadline,
        overdue=deadline is not None and datetime.fromisoformat(ends) > datetime.fromisoformat(deadline),
    )


def _groups(score: Entry, figures: Figures) -> Sequence[Group]:
    figures.score("score", total=score["total"])
    figures.moment("score", at=score["at"])
    figures.count("score", up_to=score["up_to"])
    return [_group(group, score[group["name"]], figures) for group in score["groups"]]


def _group(group: Entry, percent: str, figures: Figures) -> Group:
    key = f"score.{group['name']}"
    parts = [_part(f"{key}.{each['name']}", each, figures) for each in group["fractions"]]
    share = sum((Fraction(part.done, part.of) if part.of else Fraction(0) for part in parts), Fraction(0)) / len(parts)
    figures.count(key, weight=group["weight"])
    figures.score(key, points=two_decimals(share * group["weight"], group["weight"]), percent=percent)
    return Group(name=group["name"], key=key, weight=group["weight"], share=float(share), parts=parts)


def _part(key: str, part: Entry, figures: Figures) -> Part:
    figures.count(key, done=part["numerator"], of=part["denominator"], entries=len(part["evidence"]))
    return Part(
        name=part["name"], key=key, done=part["numerator"], of=part["denominator"], entries=sorted(part["evidence"])
    )


def two_decimals(value: Fraction, full: int) -> str:
    """As scores are written: halves go up, but what is not all of `full` never reads as if it were."""
    rounded = (Decimal(value.numerator) / Decimal(value.denominator)).quantize(_CENT, ROUND_HALF_UP)
    return str(full - _CENT if value < full <= rounded else rounded)


def _cohort(log: Log, name: str, figures: Figures) -> CohortRow:
    key = f"cohort.{name}"
    figures.count(key, shops=len(log.cohorts[name]))
    return _flips(name, key, log.cohorts[name], log, figures)


def _flips(name: str, key: str, tenants: Sequence[str], log: Log, figures: Figures) -> CohortRow:
    flips = log.arrivals(tenants)
    figures.count(key, moved=log.moved(tenants))
    if not flips:
        return CohortRow(name=name, key=key, first=None, last=None)
    first, last = flips[0]["at"], flips[-1]["at"]
    figures.moment(key, first=first, last=last)
    after = next((entry for entry in log.of("score") if entry["n"] > flips[-1]["n"]), None)
    if after is not None:
        figures.score(key, score=after["total"])
    return CohortRow(name=name, key=key, first=first, last=last)


def _scores(log: Log, figures: Figures) -> Sequence[Scored]:
    """The first score, and each that differs from the one before it."""
    scored: list[Scored] = []
    for entry in log.of("score"):
        if scored and scored[-1].total == float(entry["total"]):
            continue
        key = f"scores.{entry['n']}"
        figures.score(key, total=entry["total"])
        figures.moment(key, at=entry["at"])
        scored.append(Scored(key=key, at=entry["at"], total=float(entry["total"])))
    figures.count("scores", shown=len(scored))
    return scored


def _deadline(log: Log, ends: str, figures: Figures) -> str | None:
    rules = log.last("rules")
    deadline: str | None = rules["deadline"] if rules else None
    if deadline is not None:
        away = datetime.fromisoformat(deadline) - datetime.fromisoformat(ends)
        figures.moment("deadline", at=deadline)
        figures.count("deadline", days=abs(away).days)
    return deadline


def _commands(log: Log, figures: Figures) -> Sequence[Command]:
    """Each approval with the first answer to the same command that follows it."""
    open_answers = list(log.of("answer"))
    return [_command(approval, open_answers, figures) for approval in log.of("approval")]


def _command(approval: Entry, open_answers: list[Entry], figures: Figures) -> Command:
    asked = (approval["command"], approval["argument"])
    answers = (e for e in open_answers if e["n"] > approval["n"] and (e["command"], e["argument"]) == asked)
    answer = next(answers, None)
    key = f"command.{approval['n']}"
    figures.moment(key, at=approval["at"])
    if answer is not None:
        open_answers.remove(answer)
        figures.count(key, exit_code=answer["exit_code"], moved=answer["moved"], aborted=len(answer["aborted"]))
    return Command(
        key=key,
        words=f"{approval['command']} {approval['argument'] or ''}".strip(),
        by=approval["by"],
        exit_code=answer["exit_code"] if answer else None,
        aborted=answer["aborted"] if answer else (),
    )
