"""The last reconciliation: rupiah by payee and day, claims between the operators, and what nothing explains."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from alih.report.figures import Figures
from alih.report.log import Entry, Items, Log

COLUMNS = ("orders_idr", "charges_idr", "provider_idr", "books_idr", "refunds_idr")
_DAYS_SHOWN = 14
_UNEXPLAINED_SHOWN = 50


@dataclass(frozen=True, slots=True)
class DayRow:
    """A day of one payee; `day` None: all days before the ones that are shown."""

    day: str | None
    key: str


@dataclass(frozen=True, slots=True)
class PayeeTable:
    """What went to one account; `key` bears the sums over all its days."""

    payee: str
    key: str
    days: Sequence[DayRow]


@dataclass(frozen=True, slots=True)
class Claim:
    """Paid into an account after the shop had left its operator."""

    day: str
    source: str
    target: str
    key: str


@dataclass(frozen=True, slots=True)
class Unexplained:
    payee: str
    tenant: str
    day: str
    what: str
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Money:
    """`test` has one row for each payee: purchases that were tried, which are nobody's sales."""

    payees: Sequence[PayeeTable]
    test: Sequence[PayeeTable]
    claims: Sequence[Claim]
    unexplained: Sequence[Unexplained]
    unexplained_unshown: int
    unexplained_sales: int
    open_sales: int
    earlier_sales: int


def money(log: Log, figures: Figures) -> Money | None:
    """None while nothing was reconciled."""
    entry = log.last("reconciliation")
    if entry is None:
        return None
    sales = [line for line in entry["lines"] if not line["test"]]
    unexplained = entry["unexplained"]
    earlier = entry["earlier"]
    figures.moment("money", at=entry["at"])
    figures.count("money.earlier", sales=earlier["sales"])
    figures.rupiah("money.earlier", charges_idr=earlier["charges_idr"])
    _sums("money", [entry["totals"]], figures)
    figures.count("money.open", sales=entry["open"]["sales"])
    figures.rupiah("money.open", amount_idr=entry["open"]["amount_idr"])
    figures.count("money.unexplained", lines=len(unexplained))
    figures.count("money.unexplained", unshown=max(0, len(unexplained) - _UNEXPLAINED_SHOWN))
    figures.rupiah("money.unexplained", amount_idr=sum(abs(line["amount_idr"]) for line in unexplained))
    return Money(
        payees=[_payee(payee, lines, figures) for payee, lines in _grouped(sales, "payee")],
        test=[_tested(payee, lines, figures) for payee, lines in _grouped(entry["lines"], "payee", test=True)],
        claims=_claims(entry["claims"], figures),
        unexplained=[_unexplained(at, line, figures) for at, line in enumerate(unexplained[:_UNEXPLAINED_SHOWN])],
        unexplained_unshown=max(0, len(unexplained) - _UNEXPLAINED_SHOWN),
        unexplained_sales=len(unexplained),
        open_sales=entry["open"]["sales"],
        earlier_sales=earlier["sales"],
    )


def _sums(key: str, lines: Items, figures: Figures) -> None:
    figures.rupiah(key, **{column: sum(line[column] for line in lines) for column in COLUMNS})
    figures.count(key, sales=sum(line["sales"] for line in lines))


def _grouped(lines: Items, name: str, *, test: bool = False) -> list[tuple[str, list[Entry]]]:
    """By the value of `name`, sorted; only lines that are test purchases, or only those that are not."""
    groups: dict[str, list[Entry]] = defaultdict(list)
    for line in lines:
        if line["test"] is test:
            groups[line[name]].append(line)
    return sorted(groups.items())


def _payee(payee: str, lines: Items, figures: Figures) -> PayeeTable:
    key = f"payee.{payee}"
    _sums(key, lines, figures)
    days = _grouped(lines, "day")
    earlier, shown = days[:-_DAYS_SHOWN], days[-_DAYS_SHOWN:]
    rows = [DayRow(None, f"{key}.earlier")] if earlier else []
    if earlier:
        _sums(f"{key}.earlier", [line for _, of_day in earlier for line in of_day], figures)
        figures.count(f"{key}.earlier", days=len(earlier))
    for day, of_day in shown:
        rows.append(DayRow(day, f"{key}.{day}"))
        _sums(f"{key}.{day}", of_day, figures)
    return PayeeTable(payee, key, rows)


def _tested(payee: str, lines: Items, figures: Figures) -> PayeeTable:
    key = f"test.{payee}"
    _sums(key, lines, figures)
    return PayeeTable(payee, key, ())


def _claims(lines: Items, figures: Figures) -> Sequence[Claim]:
    """By day and accounts; a claim of each shop stands in the bundle."""
    groups: dict[tuple[str, str, str], list[Entry]] = defaultdict(list)
    for line in lines:
        groups[line["day"], line["from_payee"], line["to_payee"]].append(line)
    _claimed("claims", lines, figures)
    return [_claim(of, group, figures) for of, group in sorted(groups.items())]


def _claim(of: tuple[str, str, str], lines: Items, figures: Figures) -> Claim:
    key = "claim." + ".".join(of)
    _claimed(key, lines, figures)
    return Claim(*of, key)


def _claimed(key: str, lines: Items, figures: Figures) -> None:
    figures.count(key, sales=sum(line["sales"] for line in lines), shops=len({line["tenant"] for line in lines}))
    figures.rupiah(key, amount_idr=sum(line["amount_idr"] for line in lines))


def _unexplained(place: int, line: Entry, figures: Figures) -> Unexplained:
    key = f"unexplained.{place}"
    figures.rupiah(key, amount_idr=line["amount_idr"])
    return Unexplained(line["payee"], line["tenant"], line["day"], line["what"], key)
