"""What was compared, traced and refused: the sample of sales, the rows, the payment notices, and every finding."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alih.report.figures import Figures
from alih.report.log import Entry, Items, Log

_PROVEN_SHOWN = 10
_COMMITMENT_SHOWN = 16  # of 64 hex digits: enough to find the line of the bundle
_NOTICES = ("kept", "delivered", "repeated", "refused", "undelivered", "waiting")


@dataclass(frozen=True, slots=True, kw_only=True)
class Traced:
    """A sale of the sample; nobody owns a sale of which neither side has anything. `commitment` begins the entry's
    commitment to the order's id."""

    key: str
    tenant: str | None
    side: str | None
    commitment: str
    proven: bool
    missing: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """The last audit. `shown` has every sale that was not proven, then some that were."""

    sampled: int
    proven: int
    shown: Sequence[Traced]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The same finding, however often it was recorded."""

    key: str
    source: str
    what: str
    tenant: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """`refusals`: reason → figure of how many notices were refused for it."""

    audit: Audit | None
    compared: bool
    differing: int
    undecided: int
    found: Sequence[Finding]
    notices: bool
    refusals: Mapping[str, str]


def findings(log: Log, figures: Figures) -> Findings:
    verified, notices = _compared(log, figures), log.last("notices")
    if notices is not None:
        figures.moment("notices", at=notices["at"])
        figures.count("notices", **{name: notices[name] for name in _NOTICES})
    found = _found(log, figures)
    return Findings(
        audit=_audit(log, figures),
        compared=bool(verified),
        differing=sum(entry["findings"] for entry in verified),
        undecided=sum(entry["undecided"] for entry in verified),
        found=found,
        notices=notices is not None,
        refusals=_refusals(log, figures),
    )


def _compared(log: Log, figures: Figures) -> Items:
    """The last comparison of all rows in each direction, the newest last: only one compares what is written now."""
    by_direction = {entry["direction"]: entry for entry in log.of("verification") if entry["scope"] == "all"}
    last = sorted(by_direction.values(), key=lambda entry: int(entry["n"]))
    if last:
        figures.moment("verification", at=last[-1]["at"])
        figures.count("verification", rows=last[-1]["rows"])
        figures.count("verification", **{name: sum(e[name] for e in last) for name in ("findings", "undecided")})
    return last


def _audit(log: Log, figures: Figures) -> Audit | None:
    entry = log.last("audit")
    if entry is None:
        return None
    figures.moment("audit", at=entry["at"])
    figures.count("audit", **{name: entry[name] for name in ("sampled", "proven", "population", "seed")})
    figures.count("audit", unproven=sum(not sale["proven"] for sale in entry["sales"]))
    figures.count("audit", target=sum(sale["side"] == "target" for sale in entry["sales"]))
    unproven = [sale for sale in entry["sales"] if not sale["proven"]]
    proven = [sale for sale in entry["sales"] if sale["proven"]]
    shown = [_traced(entry, sale, figures) for sale in [*unproven, *proven[:_PROVEN_SHOWN]]]
    return Audit(sampled=entry["sampled"], proven=entry["proven"], shown=shown)


def _traced(audit: Entry, sale: Entry, figures: Figures) -> Traced:
    name = sale["sale"].removeprefix("@")
    key = f"sale.{name}"
    figures.count(key, epoch=sale["epoch"])
    return Traced(
        key=key,
        tenant=sale["tenant"],
        side=sale["side"],
        commitment=audit["commitments"][name][:_COMMITMENT_SHOWN],
        proven=sale["proven"],
        missing=sale["missing"],
    )


def _found(log: Log, figures: Figures) -> Sequence[Finding]:
    groups: dict[tuple[str, str, str | None], list[Entry]] = defaultdict(list)
    for entry in log.of("finding"):
        groups[entry["source"], entry["what"], entry["tenant"]].append(entry)
    figures.count("findings", total=len(log.of("finding")), distinct=len(groups))
    return [_finding(of, entries, figures) for of, entries in groups.items()]


def _finding(of: tuple[str, str, str | None], entries: Sequence[Entry], figures: Figures) -> Finding:
    source, what, tenant = of
    key = f"finding.{entries[0]['n']}"
    figures.count(key, times=len(entries))
    figures.moment(key, first=entries[0]["at"], last=entries[-1]["at"])
    return Finding(key=key, source=source, what=what, tenant=tenant)


def _refusals(log: Log, figures: Figures) -> Mapping[str, str]:
    reasons = Counter(entry["reason"] for entry in log.of("notice_refused"))
    figures.count("refusals", total=reasons.total())
    for reason, times in reasons.items():
        figures.count(f"refusals.{reason}", times=times)
    return {reason: f"refusals.{reason}.times" for reason in sorted(reasons)}
