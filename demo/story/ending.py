"""The end of the demo: result.json, and the ministry's questions, each with its figure and the command behind it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console

from demo.story.proof import BUNDLE, KEY, WITNESS, Proof
from demo.story.screen import moved_of
from demo.story.story import Ending
from demo.story.world import CONTRACT


def result(ending: Ending) -> dict[str, Any]:
    """The figures of `out/demo/result.json`."""
    figures = dict(ending.audit.figures)
    cohorts = {name: phases for name, phases in ending.status["tenants"].items() if name != "shared"}
    return {
        "tenants": {
            "total": sum(sum(phases.values()) for phases in cohorts.values()),
            "moved": sum(map(moved_of, cohorts.values())),
        },
        **figures,
        "hold_ms": {name: round(value, 1) for name, value in ending.status["hold_ms"].items()},
        "verification": {name: ending.verification[name] for name in ("rows", "mismatches")},
        "shapes": {"different": len(ending.shape_differences)},
        **_proven(ending.proof),
        "latency_ms": ending.summary.latency_ms,
        "duration_s": round(ending.duration_s, 1),
    }


def _proven(proof: Proof) -> dict[str, Any]:
    groups = ("payment", "data", "merchant", "total")
    return {
        "trials": {"run": len(proof.trials), "passed": sum(trial["passed"] for trial in proof.trials)},
        "audit": {name: proof.audit[name] for name in ("sampled", "proven")},
        "score": {group: float(proof.scores[-1][group]) for group in groups},
        "scores": [float(score["total"]) for score in proof.scores],
        "money": {
            "unexplained": len(proof.reconciliation["unexplained"]),
            "open": proof.reconciliation["open"]["sales"],
            "claims_idr": sum(claim["amount_idr"] for claim in proof.reconciliation["claims"]),
            "refunds_idr": proof.reconciliation["totals"]["refunds_idr"],
        },
        "evidence": {"entries": proof.verified.get("entries", 0), "verified": proof.verified["verified"]},
    }


def conclude(ending: Ending, out: Path, console: Console) -> int:
    """Write result.json, print the summary and everything that is not as promised; the demo's exit code."""
    figures = result(ending)
    (out / "result.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    wrong = failures(ending, figures)
    lines = ["", *summary(figures), "", *(f"NOT AS PROMISED  {line}" for line in wrong)]
    console.print("\n".join([*lines, f"All figures: {out / 'result.json'}"]), soft_wrap=True, markup=False)
    return 1 if wrong else 0


def failures(ending: Ending, figures: dict[str, Any]) -> list[str]:
    """Everything that is not as it has to be, by name; empty when the move has gone as promised."""
    found = [str(finding) for finding in ending.audit.findings]
    found += [f"request failed: {failure}" for failure in ending.summary.failures]
    found += ending.proof.wrong
    if figures["audit"]["proven"] < ending.script.audited:
        found.append(f"audit: {figures['audit']['proven']} sales proven, fewer than {ending.script.audited}")
    if (figures["scores"][0], figures["scores"][-1]) != (0.0, 100.0):
        found.append(f"score: {figures['scores'][0]} before the move and {figures['scores'][-1]} after it")
    if figures["tenants"]["moved"] != figures["tenants"]["total"]:
        found.append(f"tenants: {figures['tenants']['moved']} of {figures['tenants']['total']} moved")
    if figures["hold_ms"]["p99"] > ending.script.hold_p99_ms:
        found.append(f"hold: p99 is {figures['hold_ms']['p99']} ms, more than {ending.script.hold_p99_ms:.0f} ms")
    if figures["requests"]["total"] < ending.script.least_requests:
        found.append(f"load: {figures['requests']['total']} requests, fewer than {ending.script.least_requests}")
    return list(dict.fromkeys(found))


def summary(figures: dict[str, Any]) -> Iterator[str]:
    """What a manager reads, and an official can check."""
    tenants, verified = figures["tenants"], figures["verification"]
    contract = CONTRACT.relative_to(Path.cwd()) if CONTRACT.is_relative_to(Path.cwd()) else CONTRACT
    yield f"{tenants['moved']} of {tenants['total']} shops moved in {figures['duration_s']:.0f} s, with the shop open."
    yield "\nDid a request or a payment fail?"
    yield "  {failed} of {total:,} requests failed.".format(**figures["requests"])
    yield "  {attempted:,} payments tried, {doubled} charged twice, Rp{unaccounted_idr:,} unaccounted for.".format(
        **figures["charges"]
    )
    yield "\nDid anybody notice?"
    yield "  A request held at a flip waited {p50:.0f} ms (p50), {p99:.0f} ms (p99), {max:.0f} ms at most.".format(
        **figures["hold_ms"]
    )
    yield f"  Calls of the front end that changed shape: {figures['shapes']['different']}."
    yield f"  Hosts that shoppers were sent to: {figures['hosts_visited']}."
    yield "\nWhere are the orders recorded?"
    yield "  {told:,} orders told to shoppers: {recorded:,} recorded as told, {lost} lost, {doubled} doubled.".format(
        **figures["orders"]
    )
    yield f"  {verified['rows']:,} rows compared through the contract, {verified['mismatches']} differ."
    yield "\nDid the side that gave a shop away go on writing?"
    yield f"  {figures['stray_writes']} stray writes seen in its log."
    yield "\nWhat crosses, and what stays behind?"
    yield f"  Every field with its origin, class and purpose: alih check {contract}"
    yield "\nWas the payment tried?"
    yield "  {run} purchases tried before, during and after each flip, {passed} passed: alih trial CONTRACT".format(
        **figures["trials"]
    )
    yield "\nWhere is order X recorded?"
    yield "  {proven} of {sampled} sales traced from the gateway to ledger, provider and invoice: alih trace X".format(
        **figures["audit"]
    )
    yield "  Money that nobody explains: {unexplained} lines. Claims between the operators: Rp{claims_idr:,}.".format(
        **figures["money"]
    )
    yield "\nHow far are we, by which formula?"
    yield f"  {' → '.join(f'{score:.2f}' for score in figures['scores'])} of 100; alih score prints the formula."
    yield "\nCan a stranger check it?"
    yield f"  {figures['evidence']['entries']:,} signed entries, checked by a program of one file:"
    yield f"  alih-verify out/demo/{BUNDLE} --key out/demo/{KEY} --witness out/demo/{WITNESS}"
