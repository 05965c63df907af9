"""What the rules ask, beside what was measured. The rules are data of the bundle; this module knows no law."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from alih.report.log import Log

STATEMENTS = frozenset(
    {
        "approvals", "audit", "claims", "contract", "deadline", "entries", "hosts", "money", "moved", "nothing",
        "notices", "payee", "rows", "score", "tab", "trials",
    }
)  # fmt: skip
"""What `measured` may name: sentences of templates/statements.html. `nothing`: alih does not measure it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Article:
    """One thing that is asked. `asks` is by language; `unknown` are names in `measured` that this version has not."""

    article: str
    source: str
    asks: Mapping[str, str]
    measured: Sequence[str]
    unknown: Sequence[str]


def articles(log: Log) -> Sequence[Article]:
    rules = log.last("rules")
    return [
        Article(
            article=each["article"],
            source=each["source"],
            asks=each["asks"],
            measured=[name for name in each["measured"] if name in STATEMENTS],
            unknown=[name for name in each["measured"] if name not in STATEMENTS],
        )
        for each in (rules["articles"] if rules else ())
    ]
