"""What the shoppers were told, read back from their diary; the audit knows them by this file alone."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class ToldOrder:
    order_id: str
    shop_id: str
    amount_idr: int
    key: str
    lines: Counter[str]


@dataclass(frozen=True, slots=True)
class ToldPayment:
    charge_id: str
    order_id: str
    shop_id: str
    amount_idr: int
    key: str


@dataclass(slots=True)
class Told:
    """The diary, sorted: what was asked for, what was answered, and where the answers pointed."""

    orders: dict[str, ToldOrder] = field(default_factory=dict)
    payments: list[ToldPayment] = field(default_factory=list)
    paid: set[str] = field(default_factory=set)
    keys: set[str] = field(default_factory=set)
    charge_attempts: Counter[str] = field(default_factory=Counter)
    requests: Counter[str] = field(default_factory=Counter)
    failures: Counter[str] = field(default_factory=Counter)
    contradictions: list[dict[str, Any]] = field(default_factory=list)
    called: set[str] = field(default_factory=set)
    hosts: dict[str, str] = field(default_factory=dict)

    def take(self, line: dict[str, Any]) -> None:
        """Take one line of the diary in."""
        match line["kind"]:
            case "request":
                self._request(line)
            case "attempt" if line["what"] == "order":
                self.keys.add(line["key"])
            case "attempt":
                self.charge_attempts[line["order_id"]] += 1
            case "order":
                self._order(line)
            case "payment":
                self.payments.append(ToldPayment(**{name: line[name] for name in ToldPayment.__slots__}))
            case "settled":
                self.paid.add(line["order_id"])
            case "contradiction":
                self.contradictions.append(line)
            case "host":
                self.hosts[line["host"]] = line["seen_in"]
            case kind:
                raise ValueError(f"the diary has a line of an unknown kind, {kind}")

    def _request(self, line: dict[str, Any]) -> None:
        self.requests[line["verdict"]] += 1
        self.called.add(line["host"])
        if line["verdict"] == "failed":
            self.failures[f"{line['method']} {line['template']}: {line['status'] or 'no answer'} {line['why']}"] += 1

    def _order(self, line: dict[str, Any]) -> None:
        lines: Counter[str] = Counter()
        for product, quantity in line["lines"]:
            lines[product] += quantity
        if line["order_id"] in self.orders:
            self.contradictions.append(line | {"call": "checkout", "why": "one order told for two keys"})
        self.orders[line["order_id"]] = ToldOrder(
            line["order_id"], line["shop_id"], line["amount_idr"], line["key"], lines
        )


def read(path: Path) -> Told:
    """The diary as a whole; a last line cut short by a crash is an error, since the audit would judge by half of it."""
    told = Told()
    for line in _lines(path):
        told.take(line)
    return told


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield json.loads(line)
