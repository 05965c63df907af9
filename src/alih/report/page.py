"""A bundle's entries as one page of HTML that needs nothing else."""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from alih.evidence.bundle import Bundle
from alih.report.asked import articles
from alih.report.charts import chart
from alih.report.checking import signature
from alih.report.figures import Figures
from alih.report.findings import findings
from alih.report.labels import LABELS
from alih.report.log import Log
from alih.report.money import COLUMNS, money
from alih.report.progress import progress
from alih.report.purchases import AMOUNTS, MOMENTS, purchases
from alih.report.wording import Language, language

_RUNS_SHOWN = 6
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
_WIDE, _NARROW = 760.0, 340.0


def make(bundle: Bundle, lang: str) -> str:
    """The report in `lang` ("en" or "id"), from the bundle's entries and nothing else: the same bundle gives the same
    page. It is not a check of the bundle's signature: alih-verify is. Raises Refused if the bundle does not say what
    is moved, or for another language."""
    log = Log(bundle.entries)
    figures = Figures()
    facts = {
        "migration": log.migration,
        "progress": progress(log, figures),
        "purchases": purchases(log, figures),
        "reconciled": money(log, figures),
        "findings": findings(log, figures),
        "articles": articles(log),
        "signature": signature(bundle.checkpoint, log.migration["public_key"]),
    }
    wording = language(lang, _zone(log))
    environment = _environment(wording, figures, log)
    return environment.get_template("report.html").render(facts | _drawn(facts) | _look(environment))


def _zone(log: Log) -> str:
    """The one in which the books close their days."""
    reconciled = log.last("reconciliation")
    return reconciled["zone"] if reconciled else "UTC"


def _drawn(facts: Mapping[str, Any]) -> dict[str, Any]:
    course = facts["progress"]
    return {"wide": chart(course, _WIDE, ticks=4), "narrow": chart(course, _NARROW, ticks=2)}


def _look(environment: Environment) -> dict[str, Any]:
    """The style sheet, and its hash, by which the page allows it and nothing else."""
    style, _, _ = environment.loader.get_source(environment, "report.css") if environment.loader else ("", None, None)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return {"style": Markup(style), "style_sha256": digest}  # noqa: S704 - our own file


def _environment(wording: Language, figures: Figures, log: Log) -> Environment:
    environment = Environment(
        loader=PackageLoader("alih.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        extensions=["jinja2.ext.i18n"],
    )
    environment.install_gettext_callables(wording.text, wording.plural, newstyle=True)  # type: ignore[attr-defined]
    environment.globals.update(
        figure=lambda name: _figure(name, figures, wording),
        has=lambda name: name in figures,
        value=lambda name: figures[name].value,
        label=lambda word, area="": _label(word, area, wording),
        words=lambda text: _words(text, wording),
        day=lambda day: _of_day(day, wording),
        shops=_shops,
        wording=wording,
        numbers=_numbers,
        moment_of_day=lambda name: _day(name, figures, wording),
        brief=lambda name: _brief(name, figures, wording),
        tick=lambda moment: wording.tick(moment, _days(log)),
        embedded=_embedded(figures, wording),
        amounts=AMOUNTS,
        columns=COLUMNS,
        moments=MOMENTS,
    )
    return environment


def _figure(name: str, figures: Figures, wording: Language) -> Markup:
    return _data(name, figures, wording.show(figures[name]))


def _data(name: str, figures: Figures, shown: str) -> Markup:
    return Markup('<data data-figure="{}" value="{}">{}</data>').format(name, figures[name].value, shown)


def _day(name: str, figures: Figures, wording: Language) -> Markup:
    """A moment of which only the day is read."""
    return _data(name, figures, wording.date_of(str(figures[name].value)))


def _brief(name: str, figures: Figures, wording: Language) -> Markup:
    """A moment in a table."""
    return _data(name, figures, wording.brief(figures[name].value))


def _days(log: Log) -> float:
    """How long the log goes on."""
    begins, ends = (datetime.fromisoformat(log.entries[at]["at"]) for at in (0, -1))
    return (ends - begins).total_seconds() / 86_400


def _label(word: str, area: str, wording: Language) -> str:
    english = LABELS.get(f"{area}:{word}") or LABELS.get(word)
    return wording.text(english) if english else word


def _words(text: str, wording: Language) -> Markup:
    """What somebody else has said; in English, if it is none of the words that are translated."""
    known = _label(text, "", wording)
    return Markup("<span>{}</span>").format(known) if text in LABELS else Markup('<q lang="en">{}</q>').format(text)


def _of_day(day: str, wording: Language) -> Markup:
    """A day of the books; one that nobody knows is a dash."""
    if not _DAY.fullmatch(day):
        return Markup("–")
    return Markup('<time datetime="{}">{}</time>').format(day, wording.day(day))


def _shops(tenants: Sequence[str | None]) -> Markup:
    return Markup(", ").join(Markup("<i>{}</i>").format(tenant) for tenant in tenants if tenant) or Markup("–")


def _numbers(entries: list[int]) -> str:
    """Leaf numbers, runs of them as from–to, cut after some."""
    runs: list[list[int]] = []
    for number in entries:
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    shown = ["–".join(map(str, run)) for run in runs[:_RUNS_SHOWN]]
    return ", ".join(shown) + (" …" if len(runs) > _RUNS_SHOWN else "")


def _embedded(figures: Figures, wording: Language) -> Markup:
    """All figures as JSON that may stand in a script element."""
    text = json.dumps({"lang": wording.code, "figures": figures.plain()}, ensure_ascii=False, sort_keys=True)
    return Markup(text.replace("<", "\\u003c").replace("&", "\\u0026"))  # noqa: S704 - no markup can be left
