"""What alih shows for itself during the move: purchases tried, sales traced, money matched, all of it signed.

Everything here is a command that a customer would run; the figures are what the commands print.
"""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.story.world import CommandFailed, World

BUNDLE, KEY, WITNESS, LANGUAGES = "evidence.jsonl", "key.txt", "witness.txt", ("id", "en")
_TRIED_WITHIN_S = 90.0
_LOOK_EVERY_S = 0.2

Document = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """What was shown. `scores` are in the order in which they were taken: before the move, and after each cohort."""

    trials: Sequence[Document]
    scores: Sequence[Document]
    audit: Document
    reconciliation: Document
    verified: Document

    @property
    def wrong(self) -> list[str]:
        """What is not as it has to be, by name."""
        failed = [trial for trial in self.trials if not trial["passed"]]
        return [
            *(f"trial {trial['cohort']} {trial['moment']}: {_reasons(trial)}" for trial in failed),
            *([] if self.trials else ["trial: no purchase was tried"]),
            *(f"audit: {sale['sale']} lacks {', '.join(sale['missing'])}" for sale in self.audit["missing"]),
            *(f"audit: {sale} stands in the wrong ledger" for sale in self.audit["misplaced"]),
            *(f"money: {line['what']} in shop {line['tenant']}" for line in self.reconciliation["unexplained"]),
            *([] if self.verified["verified"] else [f"evidence: {self.verified['reason']}"]),
        ]


def _reasons(trial: Document) -> str:
    return ", ".join(f"{check['name']} ({check['why']})" for check in trial["checks"] if not check["passed"])


@dataclass(slots=True)
class Trials:
    """The purchases that `alih trial` tries in the meantime, as its log tells them."""

    log: Path

    def told(self) -> list[Document]:
        text = self.log.read_text(encoding="utf-8") if self.log.exists() else ""
        lines = text.splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.startswith("{") and line.endswith("\n")]

    async def tried(self, cohort: str, moment: str) -> None:
        """Return when a purchase of that cohort was tried at that moment: before, during or after its flip."""
        try:
            async with asyncio.timeout(_TRIED_WITHIN_S):
                for _ in itertools.count():
                    if any((each["cohort"], each["moment"]) == (cohort, moment) for each in self.told()):
                        return
                    await asyncio.sleep(_LOOK_EVERY_S)
        except TimeoutError:
            raise CommandFailed(f"no trial of cohort {cohort} {moment} its flip; see {self.log}") from None


@asynccontextmanager
async def trying(world: World) -> AsyncIterator[Trials]:
    """Purchases are tried in every cohort's test shop, one after another, while the context is open."""
    name = "alih-trial.log"
    async with world.running(name, "trial", "--every", "1s", "--json"):
        yield Trials(world.logs / name)


async def witness(world: World, out: Path) -> None:
    """What somebody outside keeps of the log in the middle of the move."""
    await asyncio.to_thread((out / WITNESS).write_text, await world.alih("evidence", "checkpoint"), encoding="utf-8")


async def prove(world: World, sample: int, seed: int, cohorts: Sequence[str]) -> tuple[Document, Document]:
    """Trace a sample of the sales, match the money, and, if it is explained, close every cohort's way back."""
    audited = await world.document("audit", "--sample", str(sample), "--seed", str(seed))
    reconciled = await world.document("reconcile")
    if not reconciled["unexplained"]:  # alih would refuse
        for cohort in cohorts:
            await world.alih("finish", cohort)
    return audited, reconciled


async def close(world: World, out: Path) -> Document:
    """Write bundle and reports, and let the one-file verifier judge the bundle: it knows only what it is handed."""
    await asyncio.to_thread((out / KEY).write_text, await world.alih("evidence", "key"), encoding="utf-8")
    await world.alih("evidence", "export", "--output", str(out / BUNDLE))
    for language in LANGUAGES:
        await world.alih("report", "--lang", language, "--output", str(out / f"report-{language}.html"))
    check = (str(out / BUNDLE), "--key", str(out / KEY), "--witness", str(out / WITNESS), "--json")
    return await world.judged("alih_verify", *check)
