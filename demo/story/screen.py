"""What somebody who watches the demo sees: a live view on a terminal, plain lines elsewhere."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from demo.shoppers.diary import Live as Traffic

_REFRESH_S = 0.5
_PLAIN_EVERY_S = 5.0

CHAPTERS = (
    "A shop that sells",
    "Shoppers come",
    "Copy, follow, verify",
    "First cohort: one shop",
    "Second cohort: a tenth",
    "Third cohort: the rest",
    "Shared rows: the buyers",
    "Life goes on",
    "Shoppers leave, books are closed",
)


@dataclass(slots=True)
class View:
    """The state that is shown; the story writes it."""

    chapter: int = 0
    note: str = ""
    tenants: int = 0
    trials: Sequence[Mapping[str, Any]] = ()
    live: Callable[[], Traffic] | None = None
    status: Mapping[str, Any] = field(default_factory=dict)
    verified: asyncio.Event = field(default_factory=asyncio.Event)
    began: float = field(default_factory=monotonic)

    @property
    def traffic(self) -> Traffic | None:
        """The load at a glance, once there is any."""
        return self.live() if self.live else None

    def update(self, status: Mapping[str, Any]) -> None:
        """Take up what alih says; the first time that every tenant was copied and found equal, tell who waits."""
        self.status = status
        cohorts = status.get("tenants", {}).values()
        if cohorts and all(set(phases) == {"verified"} for phases in cohorts):
            self.verified.set()

    @property
    def moved(self) -> int:
        """Tenants that the target owns."""
        cohorts = self.status.get("tenants", {})
        return sum(moved_of(phases) for name, phases in cohorts.items() if name != "shared")

    def lag(self, direction: str) -> str:
        stream = self.status.get("streams", {}).get(direction)
        return "–" if stream is None else f"{stream['lag_bytes'] or 0:,} bytes"

    def line(self) -> str:
        """Everything on one line."""
        parts = [f"{monotonic() - self.began:5.0f} s", CHAPTERS[self.chapter], f"{self.moved}/{self.tenants} moved"]
        if traffic := self.traffic:
            speed = f"{traffic.per_second:.0f}/s, p99 {traffic.p99_ms:.0f} ms"
            parts.append(f"{traffic.requests} requests ({speed}), {traffic.failed} failed")
        return " · ".join([*parts, f"lag {self.lag('forward')}", *([self.note] if self.note else [])])


def moved_of(phases: Mapping[str, int]) -> int:
    """How many of a cohort the target owns."""
    return phases.get("soaking", 0) + phases.get("done", 0)


@asynccontextmanager
async def shown(view: View, console: Console) -> AsyncIterator[None]:
    """Show the view while the context is open."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(_live(view, console) if console.is_terminal else _plain(view, console))
        try:
            yield
        finally:
            task.cancel()


async def _plain(view: View, console: Console) -> None:
    chapter, next_at = -1, 0.0
    while True:
        if view.chapter != chapter or monotonic() >= next_at:
            console.print(view.line(), soft_wrap=True, highlight=False)
            chapter, next_at = view.chapter, monotonic() + _PLAIN_EVERY_S
        await asyncio.sleep(_REFRESH_S)


async def _live(view: View, console: Console) -> None:
    with Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(_panel(view), refresh=True)
            await asyncio.sleep(_REFRESH_S)


def _panel(view: View) -> Panel:
    return Panel(
        Group(_chapters(view), Text(), _cohorts(view), Text(), _figures(view)),
        title="alih: a live shop moves while shoppers keep buying",
        subtitle=view.note or None,
        width=92,
    )


def _chapters(view: View) -> Table:
    table = Table.grid(padding=(0, 1))
    for number, chapter in enumerate(CHAPTERS):
        mark, style = (
            ("✓", "green") if number < view.chapter else ("▸", "bold") if number == view.chapter else (" ", "dim")
        )
        table.add_row(Text(mark, style=style), Text(chapter, style=style))
    return table


def _cohorts(view: View) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, phases in view.status.get("tenants", {}).items():
        total, moved = sum(phases.values()), moved_of(phases)
        bar = ProgressBar(total=total, completed=moved, width=40)
        table.add_row(name, bar, f"{moved}/{total}", ", ".join(f"{n} {phase}" for phase, n in phases.items()))
    return table


def _figures(view: View) -> Table:
    table = Table.grid(padding=(0, 2))
    traffic = view.traffic
    if traffic is not None:
        failed = Text(f"{traffic.failed} failed", style="red" if traffic.failed else "green")
        table.add_row("shoppers", f"{traffic.requests} requests", f"{traffic.per_second:.0f}/s", failed)
        table.add_row("", f"p50 {traffic.p50_ms:.0f} ms, p99 {traffic.p99_ms:.0f} ms", f"{traffic.orders} orders", "")
    hold = view.status.get("hold_ms", {})
    table.add_row("lag", f"forward {view.lag('forward')}", f"reverse {view.lag('reverse')}", "")
    if view.trials:
        passed = sum(trial["passed"] for trial in view.trials)
        table.add_row("trials", f"{len(view.trials)} purchases tried", f"{passed} passed", "")
    table.add_row("held", f"p99 {hold.get('p99', 0):.0f} ms", f"max {hold.get('max', 0):.0f} ms", "")
    return table
