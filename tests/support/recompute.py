"""Computes every figure of a report again, from the bundle and with the standard library alone: nothing of alih.

    python recompute.py BUNDLE                prints all figures as JSON
    python recompute.py BUNDLE REPORT.html    compares; ends with 1 and names what differs

The names are those of the page's `data-figure`. It does not look at signatures: `alih-verify` does.
"""

import json
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

Leaf = dict[str, Any]
Figures = dict[str, Any]
Of = Callable[[str], list[Leaf]]

MONEY = ("orders_idr", "charges_idr", "provider_idr", "books_idr", "refunds_idr", "sales")
AMOUNTS = ("shown", "ordered", "charged", "settled", "refunded")
MOMENTS = ("before", "during", "after")
DAYS, FAILED, UNEXPLAINED, PROVEN = 14, 20, 50, 10
"""How many of them the page shows: days of an account, failed purchases, differences, sales without a gap."""


def leaves(bundle: str) -> list[Leaf]:
    """The entries of a bundle file: one a line, between the header and the checkpoint."""
    return [json.loads(line)["leaf"] for line in bundle.rstrip("\n").split("\n")[1:-1]]


def figures(bundle: str) -> Figures:
    """Name → plain value, as the page has them."""
    log = leaves(bundle)
    kinds: dict[str, list[Leaf]] = defaultdict(list)
    for leaf in log:
        kinds[leaf["kind"]].append(leaf)

    def of(kind: str) -> list[Leaf]:
        return kinds[kind]

    migration = of("migration")[-1]
    return (
        moved(log, of, migration)
        | scores(log, of)
        | commands(of)
        | purchases(of, migration)
        | money(of)
        | traced(of)
        | found(of)
    )


def owners(states: Iterable[Leaf]) -> dict[str, str]:
    return {state["tenant"]: state["side"] for state in states}


def arrivals(of: Of, tenants: Sequence[str]) -> list[Leaf]:
    return [s for s in of("state") if (s["phase"], s["side"]) == ("flipped", "target") and s["tenant"] in tenants]


def moved(log: list[Leaf], of: Of, migration: Leaf) -> Figures:
    now, cohorts = owners(of("state")), migration["tenants"]
    everyone = {tenant for tenants in cohorts.values() for tenant in tenants}
    said: Figures = {
        "entries.total": len(log),
        "entries.states": len(of("state")),
        "entries.first": log[0]["at"],
        "entries.last": log[-1]["at"],
        "shops.total": len(everyone),
        "shops.moved": sum(now.get(tenant) == "target" for tenant in everyone),
    }
    for name, key, tenants in [*((c, f"cohort.{c}", ts) for c, ts in cohorts.items()), (None, "shared", ["@shared"])]:
        if name is not None:
            said[f"{key}.shops"] = len(tenants)
        said[f"{key}.moved"] = sum(now.get(tenant) == "target" for tenant in tenants)
        if flips := arrivals(of, tenants):
            said |= {f"{key}.first": flips[0]["at"], f"{key}.last": flips[-1]["at"]}
            after = [score for score in of("score") if score["n"] > flips[-1]["n"]]
            said |= {f"{key}.score": after[0]["total"]} if after else {}
    return said | deadline(log, of)


def deadline(log: list[Leaf], of: Of) -> Figures:
    given = of("rules")[-1]["deadline"] if of("rules") else None
    if given is None:
        return {}
    away = datetime.fromisoformat(given) - datetime.fromisoformat(log[-1]["at"])
    return {"deadline.at": given, "deadline.days": abs(away).days}


def written(value: Fraction, full: int) -> str:
    """Two decimals, halves up; what is not all of `full` never reads as if it were."""
    cent = Decimal("0.01")
    exact = (Decimal(value.numerator) / Decimal(value.denominator)).quantize(cent, ROUND_HALF_UP)
    return str(full - cent if value < full <= exact else exact)


def counted(log: list[Leaf]) -> dict[str, dict[str, tuple[int, int]]]:
    """The fractions of the score, counted in these entries."""
    migration = [leaf for leaf in log if leaf["kind"] == "migration"][-1]
    shops = [tenant for tenants in migration["tenants"].values() for tenant in tenants]
    side: dict[str, str] = {}
    flipped: dict[str, int] = {}
    caught_up: dict[str, bool] = {}
    for state in (leaf for leaf in log if leaf["kind"] == "state"):
        tenant = state["tenant"]
        caught_up[tenant] = caught_up.get(tenant, False) or state["phase"] == "caughtup"
        if state["side"] != side.get(tenant, "source"):
            side[tenant], flipped[tenant] = state["side"], state["n"]
            caught_up[tenant] = caught_up[tenant] and state["side"] == "target"
    arrived = [shop for shop in shops if side.get(shop) == "target"]
    return {
        "payment": {
            "recorded": (recorded(log, arrived, flipped), len(shops)),
            "tried": (tried(log, migration["test_tenants"], side, flipped), len(migration["test_tenants"])),
        },
        "data": {
            "verified": (sum(caught_up[shop] for shop in arrived) if equal(log) else 0, len(shops)),
            "shared": (int(side.get("@shared") == "target"), 1),
        },
        "merchant": {"moved": (len(arrived), len(shops))},
    }


def recorded(log: list[Leaf], arrived: Sequence[str], flipped: dict[str, int]) -> int:
    matched = [leaf for leaf in log if leaf["kind"] == "reconciliation"]
    if not matched:
        return 0
    doubtful = {line["tenant"] for line in matched[-1]["unexplained"]}
    return sum(flipped[shop] < matched[-1]["n"] and shop not in doubtful for shop in arrived)


def tried(log: list[Leaf], tested: dict[str, str], side: dict[str, str], flipped: dict[str, int]) -> int:
    passed = 0
    for cohort, shop in tested.items():
        after = [t for t in log if t["kind"] == "trial" and (t["cohort"], t["moment"]) == (cohort, "after")]
        if after and side.get(shop) == "target" and after[-1]["n"] > flipped[shop]:
            passed += after[-1]["passed"]
    return passed


def equal(log: list[Leaf]) -> bool:
    last = {leaf["direction"]: leaf for leaf in log if leaf["kind"] == "verification" and leaf["scope"] == "all"}
    return bool(last) and not any(leaf["findings"] or leaf["undecided"] for leaf in last.values())


def scores(log: list[Leaf], of: Of) -> Figures:
    """Each score is computed anew from the entries before it; what it says of itself is not believed."""
    said: Figures = {}
    before = None
    if not of("score"):
        return {"scores.shown": 0}
    for leaf in of("score"):
        rules = [rule for rule in log[: leaf["up_to"]] if rule["kind"] == "rules"]
        weights = rules[-1]["weights"] if rules else {"payment": 60, "data": 20, "merchant": 20}
        groups = counted(log[: leaf["up_to"]])
        total = written(sum((weights[name] * share(parts) for name, parts in groups.items()), Fraction(0)), 100)
        if total != before:
            said |= {f"scores.{leaf['n']}.total": total, f"scores.{leaf['n']}.at": leaf["at"]}
        before = total
        if leaf is of("score")[-1]:
            said |= {"score.total": total, "score.at": leaf["at"], "score.up_to": leaf["up_to"]}
            said |= grouped(leaf, weights, groups)
    return said | {"scores.shown": sum(name.startswith("scores.") for name in said) // 2}


def share(parts: dict[str, tuple[int, int]]) -> Fraction:
    return sum((Fraction(n, of) if of else Fraction(0) for n, of in parts.values()), Fraction(0)) / len(parts)


def grouped(leaf: Leaf, weights: dict[str, int], groups: dict[str, dict[str, tuple[int, int]]]) -> Figures:
    said: Figures = {}
    named = {(g["name"], p["name"]): len(set(p["evidence"])) for g in leaf["groups"] for p in g["fractions"]}
    for name, parts in groups.items():
        key, done = f"score.{name}", share(parts)
        said |= {f"{key}.weight": weights[name], f"{key}.percent": written(done * 100, 100)}
        said[f"{key}.points"] = written(done * weights[name], weights[name])
        for part, (numerator, denominator) in parts.items():
            said |= {f"{key}.{part}.done": numerator, f"{key}.{part}.of": denominator}
            said[f"{key}.{part}.entries"] = named[name, part]
    return said


def commands(of: Of) -> Figures:
    said: Figures = {"commands.total": len(of("approval"))}
    answers = list(of("answer"))
    for asked in of("approval"):
        key = f"command.{asked['n']}"
        said[f"{key}.at"] = asked["at"]
        same = [a for a in answers if a["n"] > asked["n"] and all(a[k] == asked[k] for k in ("command", "argument"))]
        if same:
            answers.remove(same[0])
            said |= {f"{key}.exit_code": same[0]["exit_code"], f"{key}.moved": same[0]["moved"]}
            said[f"{key}.aborted"] = len(same[0]["aborted"])
    return said


def purchases(of: Of, migration: Leaf) -> Figures:
    trials, tested = of("trial"), migration["test_tenants"]
    after = [trial for trial in trials if trial["moment"] == "after"]
    failed = [trial for trial in trials if not trial["passed"]]
    last = [[trial for trial in after if trial["cohort"] == cohort][-1:] for cohort in tested]
    said: Figures = {
        "trials.run": len(trials),
        "trials.passed": len(trials) - len(failed),
        "trials.failed": len(failed),
        "trials.unshown": max(0, len(failed) - FAILED),
        "trials.cohorts": len(tested),
        "trials.cohorts_passed": sum(trial["passed"] for trials in last for trial in trials),
        "trials.after": len(after),
        "trials.after_passed": sum(trial["passed"] for trial in after),
        "trials.after_payee": sum(trial["payee"] == migration["payees"]["target"] for trial in after),
        "trials.after_recorded": sum(trial["side"] == "target" for trial in after),
        "trials.hosts": len({host for trial in trials for host in trial["hosts"]}),
    }
    for cohort in tested:
        for moment in MOMENTS:
            here = [trial for trial in trials if (trial["cohort"], trial["moment"]) == (cohort, moment)]
            said[f"trials.{cohort}.{moment}.run"] = len(here)
            said[f"trials.{cohort}.{moment}.passed"] = sum(trial["passed"] for trial in here)
    for trial in [*(trial for trials in last for trial in trials), *failed[-FAILED:]]:
        said |= purchase(trial)
    return said | pauses(trials)


def purchase(trial: Leaf) -> Figures:
    key = f"trial.{trial['n']}"
    said: Figures = {f"{key}.at": trial["at"]}
    said |= {f"{key}.{name}": trial["amounts"][name] for name in AMOUNTS if trial["amounts"].get(name) is not None}
    return said | {f"{key}.step.{place}.ms": step["ms"] for place, step in enumerate(trial["steps"], 1)}


def pauses(trials: list[Leaf]) -> Figures:
    said: Figures = {}
    for moment in MOMENTS:
        times = sorted(t["tab_ms"] for t in trials if t["moment"] == moment and t["tab_ms"] is not None)
        said[f"tab.{moment}.tries"] = len(times)
        if times:
            said[f"tab.{moment}.ms"] = times[(len(times) - 1) // 2]  # the lower median: a time that was measured
    return said


def money(of: Of) -> Figures:
    if not of("reconciliation"):
        return {}
    last = of("reconciliation")[-1]
    sold = [line for line in last["lines"] if not line["test"]]
    doubtful = last["unexplained"]
    said = {
        "money.at": last["at"],
        "money.earlier.sales": last["earlier"]["sales"],
        "money.earlier.charges_idr": last["earlier"]["charges_idr"],
        "money.open.sales": last["open"]["sales"],
        "money.open.amount_idr": last["open"]["amount_idr"],
        "money.unexplained.lines": len(doubtful),
        "money.unexplained.unshown": max(0, len(doubtful) - UNEXPLAINED),
        "money.unexplained.amount_idr": sum(abs(line["amount_idr"]) for line in doubtful),
    }
    said |= summed("money", sold)
    for payee in {line["payee"] for line in sold}:
        said |= account(payee, [line for line in sold if line["payee"] == payee])
    for payee in {line["payee"] for line in last["lines"] if line["test"]}:
        said |= summed(f"test.{payee}", [line for line in last["lines"] if line["test"] and line["payee"] == payee])
    said |= {f"unexplained.{n}.amount_idr": line["amount_idr"] for n, line in enumerate(doubtful[:UNEXPLAINED])}
    return said | claims(last["claims"])


def summed(key: str, lines: list[Leaf]) -> Figures:
    return {f"{key}.{column}": sum(line[column] for line in lines) for column in MONEY}


def account(payee: str, lines: list[Leaf]) -> Figures:
    days = sorted({line["day"] for line in lines})
    said = summed(f"payee.{payee}", lines)
    for day in days[-DAYS:]:
        said |= summed(f"payee.{payee}.{day}", [line for line in lines if line["day"] == day])
    if earlier := days[:-DAYS]:
        said |= summed(f"payee.{payee}.earlier", [line for line in lines if line["day"] in earlier])
        said[f"payee.{payee}.earlier.days"] = len(earlier)
    return said


def claims(lines: list[Leaf]) -> Figures:
    groups: dict[str, list[Leaf]] = {"claims": lines}
    for line in lines:
        groups.setdefault(f"claim.{line['day']}.{line['from_payee']}.{line['to_payee']}", []).append(line)
    said: Figures = {}
    for key, group in groups.items():
        said |= {f"{key}.sales": sum(line["sales"] for line in group)}
        said |= {f"{key}.shops": len({line["tenant"] for line in group})}
        said |= {f"{key}.amount_idr": sum(line["amount_idr"] for line in group)}
    return said


def traced(of: Of) -> Figures:
    if not of("audit"):
        return {}
    last = of("audit")[-1]
    gaps = [sale for sale in last["sales"] if not sale["proven"]]
    said: Figures = {
        "audit.at": last["at"],
        "audit.sampled": len(last["sales"]),
        "audit.proven": len(last["sales"]) - len(gaps),
        "audit.unproven": len(gaps),
        "audit.population": last["population"],
        "audit.seed": last["seed"],
        "audit.target": sum(sale["side"] == "target" for sale in last["sales"]),
    }
    for sale in [*gaps, *[sale for sale in last["sales"] if sale["proven"]][:PROVEN]]:
        if sale["epoch"] is not None:
            said[f"sale.{sale['sale'][1:]}.epoch"] = sale["epoch"]
    return said


def found(of: Of) -> Figures:
    groups: dict[tuple[Any, ...], list[Leaf]] = defaultdict(list)
    for leaf in of("finding"):
        groups[leaf["source"], leaf["what"], leaf["tenant"]].append(leaf)
    said: Figures = {"findings.total": len(of("finding")), "findings.distinct": len(groups)}
    for same in groups.values():
        key = f"finding.{same[0]['n']}"
        said |= {f"{key}.times": len(same), f"{key}.first": same[0]["at"], f"{key}.last": same[-1]["at"]}
    reasons = Counter(leaf["reason"] for leaf in of("notice_refused"))
    said |= {"refusals.total": len(of("notice_refused"))}
    said |= {f"refusals.{reason}.times": times for reason, times in reasons.items()}
    compared = {leaf["direction"]: leaf for leaf in of("verification") if leaf["scope"] == "all"}.values()
    if compared:
        newest = max(compared, key=lambda leaf: int(leaf["n"]))
        said |= {"verification.at": newest["at"], "verification.rows": newest["rows"]}
        said |= {f"verification.{name}": sum(leaf[name] for leaf in compared) for name in ("findings", "undecided")}
    if of("notices"):
        names = ("at", "kept", "delivered", "repeated", "refused", "undelivered", "waiting")
        said |= {f"notices.{name}": of("notices")[-1][name] for name in names}
    return said


class Page(HTMLParser):
    """Collects what a report shows: (name, plain value) of every figure, and the embedded ones."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.shown: list[tuple[str, str]] = []
        self.embedded: Figures = {}
        self._in_script = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_script = tag == "script"
        given = dict(attrs)
        if "data-figure" in given:
            self.shown.append((given["data-figure"] or "", given["value"] or ""))

    def handle_data(self, data: str) -> None:
        if self._in_script and data.strip():
            self.embedded = json.loads(data)["figures"]


def differences(bundle: str, html: str) -> list[str]:
    """What the page says otherwise than the bundle, a line each."""
    expected, page = figures(bundle), Page(html)
    wrong = [f"{name}: the page shows {value}" for name, value in page.shown if str(expected.get(name)) != value]
    names = sorted(expected.keys() | page.embedded.keys())
    wrong += [
        f"{name}: embedded {page.embedded.get(name)}, computed {expected.get(name)}"
        for name in names
        if page.embedded.get(name) != expected.get(name)
    ]
    return wrong


def main(arguments: list[str]) -> int:
    bundle = Path(arguments[0]).read_text(encoding="utf-8")
    if len(arguments) == 1:
        sys.stdout.write(json.dumps(figures(bundle), indent=1, sort_keys=True) + "\n")
        return 0
    wrong = differences(bundle, Path(arguments[1]).read_text(encoding="utf-8"))
    sys.stdout.write("".join(f"{line}\n" for line in wrong) or f"{len(figures(bundle))} figures, all equal\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
