"""The trial of a contract: the clicks of a synthetic shopper, judged so that no click lacks a word when it is made."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from alih.contract import shape
from alih.contract.commerce import under_tenant
from alih.contract.document import Step
from alih.contract.findings import Findings
from alih.contract.settings import PLACEHOLDER
from alih.model.commerce import Trial, TrialStep
from alih.model.contract import Contract, Gateway

Path = tuple[Step, ...]
KEY = "key"
"""The name of the text that each trial has for itself alone."""

_NEEDED = ("order", "shown", "ordered", "charged", "invoice", "refunded")
_SAFE = frozenset({"GET", "HEAD"})


def trial(given: shape.TrialShape | None) -> Trial | None:
    """The trial as the file says it."""
    if given is None:
        return None
    return Trial(
        tenants={c: {name: str(value) for name, value in names.items()} for c, names in given.tenants.items()},
        steps=tuple(_step(name, step) for name, step in given.steps.items()),
        tab=given.tab,
    )


def _step(name: str, given: shape.StepShape) -> TrialStep:
    method, path = given.call.split(" ", 1)
    cuts = {taken: value for taken, value in given.take.items() if isinstance(value, shape.CutShape)}
    return TrialStep(
        name=name,
        method=method,
        path=path,
        headers={header: str(value) for header, value in given.headers.items()},
        body=given.body,
        status=given.status,
        takes={t: v.source if isinstance(v, shape.CutShape) else str(v) for t, v in given.take.items()},
        patterns={taken: cut.like for taken, cut in cuts.items()},
        until={part: scalar_text(value) for part, value in given.until.items()},
    )


def scalar_text(value: Any) -> str:  # a JSON scalar
    """A scalar as it is compared and put into a path: text as it is, anything else as JSON writes it."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case _:
            return str(value)


def placeholders(value: Any) -> Iterator[str]:  # JSON
    """Every `{name}` in the texts of a JSON value."""
    if isinstance(value, str):
        yield from PLACEHOLDER.findall(value)
    elif isinstance(value, Mapping | list):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from placeholders(inner)


def needed(step: TrialStep) -> list[str]:
    """The names that a step has to know before it can be made, in the order of their first use."""
    return list(dict.fromkeys(placeholders([step.path, *step.headers.values(), step.body])))


def judge(contract: Contract, findings: Findings) -> None:
    """Problems of the trial against cohorts, operations and itself."""
    given = contract.trial
    if given is None:
        return
    for section in ("gateway", "sales", "payments"):
        if getattr(contract, section) is None:
            findings.add(("trial",), f"needs `{section}` to check a purchase by", f"add `{section}:`")
    if contract.sales is not None and contract.sales.refunds is None:
        findings.add(("sales",), "has no refunds, and the trial refunds what it paid", "add `refunds: {entity: …}`")
    _judge_tenants(given, contract, findings)
    _judge_takes(given, findings)
    _judge_names(given, findings)
    for step in given.steps:
        _judge_step(step, ("trial", "steps", step.name), contract, findings)
    if not any("invoice" in needed(step) for step in given.steps):
        findings.add(("trial", "steps"), "no step opens {invoice}", 'add a step with `call: "GET {invoice}"`')
    if given.tab not in {step.name for step in given.steps}:
        findings.add(("trial", "tab"), f"there is no step {given.tab}", "name the step that opens the Shop tab")


def _judge_tenants(given: Trial, contract: Contract, findings: Findings) -> None:
    cohorts = {c.name for c in contract.cohorts}
    named = {tenant.lower() for c in contract.cohorts for tenant in c.tenants}
    for cohort, names in given.tenants.items():
        path: Path = ("trial", "tenants", cohort)
        if cohort not in cohorts:
            findings.add(path, f"there is no cohort {cohort}", "name one of `cohorts`")
        if KEY in names:
            findings.add((*path, KEY), "is alih's own name", "choose another")
        tenant = names.get("tenant", "").lower()
        if not tenant:
            findings.add((*path, "tenant"), "is missing", "give the id of a tenant that is for tests only")
        elif tenant in named:
            findings.add((*path, "tenant"), "is named a second time", "a test tenant is in this cohort already")
        named.add(tenant)


def _judge_takes(given: Trial, findings: Findings) -> None:
    taken: set[str] = set()
    for step in given.steps:
        for name in step.takes:
            path: Path = ("trial", "steps", step.name, "take", name)
            if name in taken or name == KEY or any(name in names for names in given.tenants.values()):
                findings.add(path, "has a value already", "give it a name of its own")
            taken.add(name)
    for name in _NEEDED:
        if name not in taken:
            findings.add(
                ("trial", "steps"),
                f"no step takes {name}",
                f"add `take: {{{name}: …}}` to the step whose answer tells it",
            )


def _judge_names(given: Trial, findings: Findings) -> None:
    """Every placeholder has a value in every cohort, by the time the step is made."""
    known = {KEY}
    for step in given.steps:
        path: Path = ("trial", "steps", step.name)
        for name in needed(step):
            _judge_name(name, known, given, path, findings)
        for taken, template in step.patterns.items():
            inner = set(PLACEHOLDER.findall(template))
            if taken not in inner:
                findings.add((*path, "take", taken), f"its template has no {{{taken}}}", f"write {{{taken}}} in `like`")
            for name in sorted(inner - {taken}):
                _judge_name(name, known, given, (*path, "take", taken), findings)
        known.update(step.takes)


def _judge_name(name: str, known: set[str], given: Trial, path: Path, findings: Findings) -> None:
    without = [cohort for cohort, names in given.tenants.items() if name not in names]
    if name in known or not without or name == "tenant":
        return
    if len(without) == len(given.tenants):
        findings.add(path, f"{{{name}}} has no value", "take it in an earlier step, or give it under trial.tenants")
        return
    for cohort in without:
        findings.add(("trial", "tenants", cohort), f"gives no {name}, which step {path[2]} names", f"add `{name}: …`")


def _judge_step(step: TrialStep, path: Path, contract: Contract, findings: Findings) -> None:
    for name, source in step.takes.items():
        if source != "location" and not is_body_path(source):
            findings.add((*path, "take", name), f"`{source}` leads nowhere", "write `location`, or body. and a name")
    for part in step.until:
        if not is_body_path(part):
            findings.add((*path, "until", part), f"`{part}` leads nowhere", "begin with body. and a name")
    if step.until and step.method not in _SAFE:
        findings.add((*path, "until"), f"would repeat a {step.method}", "wait by a GET, in a step of its own")
    if contract.gateway is not None and not _is_offered(step, contract, contract.gateway):
        findings.add(
            (*path, "call"),
            "is no operation: it would end with the move",
            "add the operation, or call what the contract offers",
        )


def is_body_path(path: str) -> bool:
    """Whether `path` is `body` or `body.a.0.b`."""
    first, *rest = path.split(".")
    return first == "body" and all(rest)


def _is_offered(step: TrialStep, contract: Contract, gateway: Gateway) -> bool:
    """Calls under the tenants' prefix have to be operations; others are the front end's own."""
    path = step.path.partition("?")[0]
    if not under_tenant(path, gateway.tenant_path):
        return True
    fronts = (o.front[1] for o in contract.operations if o.front[0] == step.method)
    return any(re.fullmatch(_pattern(front), PLACEHOLDER.sub("x", path)) for front in fronts)


def _pattern(template: str) -> str:
    """A path template as a regular expression: a placeholder is one segment's text."""
    return "[^/]+".join(re.escape(part) for part in re.split(PLACEHOLDER.pattern.replace("(", "(?:"), template))
