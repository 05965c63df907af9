"""What the shoppers were told, written down as they were told it: JSON lines on disk, counters in memory.

The file is all that the audit reads. Its lines have a `kind`: `request`, `attempt` (an order, payment or refund about
to be asked for, with its idempotency key), `order`, `payment` and `refund` (told), `settled`, `contradiction`, `host`.
"""

import json
import math
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from io import StringIO
from pathlib import Path
from typing import Any, Self, TextIO

from demo.shoppers.answers import Placed
from demo.shoppers.shapes import Shape

WINDOW = 1000
"""How many of the last requests the live percentiles are taken over."""
SHOWN_FAILURES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How often what happened. A refusal (sold out) is a right answer, so it counts among the succeeded."""

    requests: int
    failed: int
    refused: int
    orders: int
    charges: int
    paid: int
    refunds: int

    @property
    def succeeded(self) -> int:
        return self.requests - self.failed


@dataclass(frozen=True, slots=True, kw_only=True)
class Live(Counts):
    """The load at a glance, for a display that is redrawn; `per_second` and percentiles over the last requests."""

    per_second: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary(Counts):
    """How the whole load went; latencies by phase and call."""

    hosts: dict[str, str]
    latency_ms: dict[str, dict[str, dict[str, float]]]
    failures: list[str]


def percentile(values: list[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed; 0 if there are none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


class Diary:
    """The shoppers' common record; `label` names the phase of the story that is running."""

    def __init__(self, path: Path) -> None:
        self.label = "before"
        self.recordings: defaultdict[str, defaultdict[str, Shape]] = defaultdict(lambda: defaultdict(Shape))
        self._path = path
        self._counts: Counter[str] = Counter()
        self._hosts: dict[str, str] = {}
        self._failures: list[str] = []
        self._latencies: defaultdict[str, defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
        self._recent: deque[tuple[float, float]] = deque(maxlen=WINDOW)
        self._file: TextIO = StringIO()

    @contextmanager
    def opened(self) -> Iterator[Self]:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("w", encoding="utf-8") as self._file:
            yield self

    def shape(self, call: str, document: Any) -> None:
        self.recordings[self.label][call].add(document)

    def request(self, call: str, host: str, status: int, ms: float, verdict: str, why: str = "") -> None:
        """Write down one request and how it went; `verdict` is ok, refused or failed, `status` 0 without an answer."""
        self._counts.update(["requests", verdict])
        self._recent.append((time.monotonic(), ms))
        self._latencies[self.label][call].append(ms)
        self._write("request", call=call, host=host, status=status, ms=ms, verdict=verdict, why=why)
        if verdict == "failed":
            self._failure(f"{call}: {status or 'no answer'} {why}")

    def contradiction(self, call: str, why: str, ids: Mapping[str, str]) -> None:
        """An answer that cannot be true after what the shopper was told before: its request counts as failed."""
        self._counts["failed"] += 1
        self._write("contradiction", call=call, why=why, **ids)
        self._failure(f"{call}: {why}")

    def attempt(self, what: str, key: str, **ids: str) -> None:
        """An order, payment or refund is about to be asked for; written first, so that a lost answer leaves a trace."""
        self._write("attempt", what=what, key=key, **ids)

    def order(self, order: Placed) -> None:
        self._counts["orders"] += 1
        lines = [(line.product_id, line.quantity) for line in order.items]
        named = {name: getattr(order, name) for name in ("order_id", "shop_id", "buyer_id", "amount_idr", "key")}
        self._write("order", **named, lines=lines)

    def payment(self, order: Placed, charge_id: str, amount_idr: int, key: str) -> None:
        self._counts["charges"] += 1
        self._write("payment", order_id=order.order_id, charge_id=charge_id, amount_idr=amount_idr, key=key)

    def refund(self, order: Placed, refund_id: str, amount_idr: int, key: str) -> None:
        self._counts["refunds"] += 1
        self._write("refund", order_id=order.order_id, refund_id=refund_id, amount_idr=amount_idr, key=key)

    def settled(self, order: Placed) -> None:
        """The shopper saw the order paid."""
        self._counts["paid"] += 1
        self._write("settled", order_id=order.order_id)

    def host(self, host: str, seen_in: str) -> None:
        """A host that a URL names; only its first sighting is worth a line."""
        if host not in self._hosts:
            self._hosts[host] = seen_in
            self._write("host", host=host, seen_in=seen_in)

    def live(self) -> Live:
        """The counters now."""
        span = time.monotonic() - self._recent[0][0] if self._recent else 0.0
        latencies = [ms for _, ms in self._recent]
        return Live(
            **self._counted(),
            per_second=len(self._recent) / span if span else 0.0,
            p50_ms=percentile(latencies, 0.5),
            p99_ms=percentile(latencies, 0.99),
        )

    def summary(self) -> Summary:
        """How it all went."""
        latencies = {label: _percentiles(calls) for label, calls in self._latencies.items()}
        return Summary(**self._counted(), hosts=self._hosts, latency_ms=latencies, failures=self._failures)

    def _counted(self) -> dict[str, int]:
        return {field.name: self._counts[field.name] for field in fields(Counts)}

    def _failure(self, text: str) -> None:
        if len(self._failures) < SHOWN_FAILURES:
            self._failures.append(f"{self.label}: {text}")

    def _write(self, kind: str, **line: Any) -> None:
        json.dump({"kind": kind, "at": round(time.time(), 3), "phase": self.label, **line}, self._file)
        self._file.write("\n")


def _percentiles(calls: Mapping[str, list[float]]) -> dict[str, dict[str, float]]:
    return {call: {"p50": percentile(ms, 0.5), "p99": percentile(ms, 0.99)} for call, ms in sorted(calls.items())}
