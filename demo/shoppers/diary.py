"""What the shoppers were told, written down as they were told it: JSON lines on disk, counters in memory.

The file is all that the audit reads. Its lines have a `kind`: `request`, `attempt` (an order or payment about to be
asked for, with its idempotency key), `order` and `payment` (told), `settled`, `contradiction`, `host`.
"""

import json
import math
import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from io import StringIO
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from demo.shoppers.shapes import Recorder, Shape

WINDOW = 1000
"""How many of the last requests the live percentiles are taken over."""
SHOWN_FAILURES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An order as the shopper was told it; `amount_idr` in whole rupiah, `lines` as [product id, quantity]."""

    order_id: str
    shop_id: str
    buyer_id: str
    amount_idr: int
    key: str
    invoice_url: str
    lines: list[tuple[str, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """A charge as the shopper was told it."""

    charge_id: str
    order_id: str
    shop_id: str
    amount_idr: int
    key: str
    status: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One HTTP request and how it went; `verdict` is ok, refused or failed."""

    shopper: int
    method: str
    template: str
    host: str
    shape: str
    status: int
    ms: float
    verdict: str
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Live:
    """The load at a glance, for a display that is redrawn; `per_second` and percentiles over the last requests."""

    requests: int
    failed: int
    refused: int
    orders: int
    paid: int
    per_second: float
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """How the whole load went. A refusal (sold out) is a right answer, so it counts among the succeeded."""

    requests: int
    succeeded: int
    failed: int
    refused: int
    orders: int
    charges: int
    paid: int
    hosts: dict[str, str]
    latency_ms: dict[str, dict[str, dict[str, float]]]
    failures: list[str]


def percentile(values: list[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed; 0 if there are none."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0


class Diary:
    """The shoppers' common record; `label` names the phase of the story that is running."""

    def __init__(self, path: Path, label: str = "before") -> None:
        self.path = path
        self.label = label
        self.counts: Counter[str] = Counter()
        self.hosts: dict[str, str] = {}
        self.failures: list[str] = []
        self._recorder = Recorder()
        self._latencies: dict[str, dict[str, list[float]]] = {}
        self._recent: deque[tuple[float, float]] = deque(maxlen=WINDOW)
        self._file: TextIO = StringIO()

    def __enter__(self) -> Self:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self.path.open("w", encoding="utf-8")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    @property
    def recordings(self) -> Mapping[str, Mapping[str, Shape]]:
        """What `compare_shapes` takes."""
        return self._recorder.recordings

    def shape(self, call: str, document: Any) -> str:
        return self._recorder.add(self.label, call, document)

    def request(self, request: Request) -> None:
        """Write one request down and count it."""
        self.counts.update(["requests", request.verdict])
        self._recent.append((time.monotonic(), request.ms))
        by_call = self._latencies.setdefault(self.label, {})
        by_call.setdefault(f"{request.method} {request.template}", []).append(request.ms)
        self._write("request", asdict(request))
        if request.verdict == "failed":
            self._failure(f"{request.method} {request.template}: {request.status or 'no answer'} {request.why}")

    def contradiction(self, call: str, why: str, ids: Mapping[str, str]) -> None:
        """An answer that cannot be true after what the shopper was told before: its request counts as failed."""
        self.counts.update({"failed": 1, "ok": -1})
        self._write("contradiction", {"call": call, "why": why, **ids})
        self._failure(f"{call}: {why}")

    def attempt(self, what: str, key: str, ids: Mapping[str, str]) -> None:
        """An order or payment is about to be asked for; written first, so that a lost answer leaves a trace."""
        self._write("attempt", {"what": what, "key": key, **ids})

    def order(self, order: Order) -> None:
        self.counts["orders"] += 1
        self._write("order", asdict(order))

    def payment(self, payment: Payment) -> None:
        self.counts["charges"] += 1
        self._write("payment", asdict(payment))

    def settled(self, order: Order) -> None:
        """The shopper saw the order paid."""
        self.counts["paid"] += 1
        self._write("settled", {"order_id": order.order_id, "shop_id": order.shop_id})

    def host(self, host: str, seen_in: str) -> None:
        """A host that a URL names; only its first sighting is worth a line."""
        if host not in self.hosts:
            self.hosts[host] = seen_in
            self._write("host", {"host": host, "seen_in": seen_in})

    def live(self) -> Live:
        """The counters now."""
        span = time.monotonic() - self._recent[0][0] if self._recent else 0.0
        latencies = [ms for _, ms in self._recent]
        return Live(
            requests=self.counts["requests"],
            failed=self.counts["failed"],
            refused=self.counts["refused"],
            orders=self.counts["orders"],
            paid=self.counts["paid"],
            per_second=len(self._recent) / span if span else 0.0,
            p50_ms=percentile(latencies, 0.5),
            p99_ms=percentile(latencies, 0.99),
        )

    def summary(self) -> Summary:
        """How it all went; latencies by phase and call."""
        counts = self.counts
        return Summary(
            requests=counts["requests"],
            succeeded=counts["requests"] - counts["failed"],
            failed=counts["failed"],
            refused=counts["refused"],
            orders=counts["orders"],
            charges=counts["charges"],
            paid=counts["paid"],
            hosts=dict(self.hosts),
            latency_ms={label: _percentiles(calls) for label, calls in self._latencies.items()},
            failures=list(self.failures),
        )

    def _failure(self, text: str) -> None:
        if len(self.failures) < SHOWN_FAILURES:
            self.failures.append(f"{self.label}: {text}")

    def _write(self, kind: str, line: Mapping[str, Any]) -> None:
        json.dump({"kind": kind, "at": round(time.time(), 3), "phase": self.label, **line}, self._file)
        self._file.write("\n")


def _percentiles(calls: Mapping[str, list[float]]) -> dict[str, dict[str, float]]:
    return {call: {"p50": percentile(ms, 0.5), "p99": percentile(ms, 0.99)} for call, ms in sorted(calls.items())}
