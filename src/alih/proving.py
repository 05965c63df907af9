"""What proves a move: purchases tried, sales traced, money matched, progress scored. Every result becomes evidence.

These commands stand on the contract and three databases alone; `alih serve` need not run for most of them.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from alih import app
from alih import contract as contracts
from alih.app import Migration
from alih.config import Environment
from alih.errors import NeedsOperator, Refused
from alih.evidence.bundle import Bundle
from alih.evidence.entry import Entry
from alih.evidence.note import SigningKey
from alih.model.commerce import Payments, Sales
from alih.model.contract import Contract, Gateway
from alih.model.side import Side
from alih.payments.midtrans import Provider
from alih.payments.words import Words
from alih.postgres import evidence
from alih.postgres.control import Control
from alih.postgres.custody import Custody
from alih.postgres.line import Line
from alih.postgres.sales import Books
from alih.postgres.seen import SeenStore
from alih.postgres.session import Connection
from alih.proof import score as scores
from alih.proof.invoice import Invoices
from alih.proof.provenance import Tracer
from alih.proof.reconciliation import Reconciliation
from alih.proof.reconciling import Reconciler
from alih.proof.sales import Ledgers
from alih.proof.trial import Trials, Tried
from alih.report import make

Show = Callable[[dict[str, Any]], None]

_KEY = "evidence.key"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proofs:
    """What sales are proved with, on connections of their own."""

    contract: Contract
    control: Control
    custody: Custody
    ledgers: Ledgers
    provider: Provider
    tracer: Tracer
    reconciler: Reconciler
    session: aiohttp.ClientSession = field(repr=False)

    async def unexplained(self) -> frozenset[str]:
        """The tenants whose money does not reconcile."""
        return (await self.reconciled()).unexplained_tenants

    async def reconciled(self) -> Reconciliation:
        """Match the money of everything that was sold, and put the result into evidence."""
        result = await self.reconciler.reconcile()
        await self.control.record(result.entry())
        return result


@asynccontextmanager
async def proofs(migration: Migration) -> AsyncIterator[Proofs]:
    """What the contract's `sales` and `payments` are proved with. Raises Refused if it has none."""
    sales, payments, gateway = described(migration.contract)
    async with AsyncExitStack() as stack:
        line = await stack.enter_async_context(Line(migration.dsns["control"], "the control database"))
        notices = await stack.enter_async_context(Line(migration.dsns["control"], "the control database"))
        control, seen, custody = Control(line), SeenStore(line), Custody(notices)
        session = await stack.enter_async_context(aiohttp.ClientSession())
        invoices = Invoices.of(migration.contract, session, f"http://{gateway.listen}")
        provider = Provider(session, payments.api, payments.payees)
        ledgers = Ledgers(await _books(migration, sales, stack), control, seen, _test_tenants(migration.contract))
        names = {side: payee.name for side, payee in payments.payees.items()}
        yield Proofs(
            contract=migration.contract,
            control=control,
            custody=custody,
            ledgers=ledgers,
            provider=provider,
            tracer=Tracer(ledgers, seen, provider, invoices, names),
            reconciler=Reconciler(ledgers, Words(custody), provider, seen, names, sales.zone),
            session=session,
        )


def described(contract: Contract) -> tuple[Sales, Payments, Gateway]:
    """The sections that a proof needs."""
    if contract.sales is None or contract.payments is None or contract.gateway is None:
        raise Refused(
            "the contract does not say where sales are recorded and who collects",
            remedy="add `sales:`, `payments:` and `gateway:`; see docs/reference/contract.md",
        )
    return contract.sales, contract.payments, contract.gateway


async def _books(migration: Migration, sales: Sales, stack: AsyncExitStack) -> dict[Side, Books]:
    both = [*migration.projections.forward, *migration.projections.reverse]
    return {side: await stack.enter_async_context(Books(migration.dsns[side], side, sales, both)) for side in Side}


def _test_tenants(contract: Contract) -> tuple[str, ...]:
    return tuple(contract.trial.test_tenants.values()) if contract.trial else ()


# --- the commands ---------------------------------------------------------------------------------------------------


async def trial(path: Path, environment: Environment, every_s: float | None, show: Show) -> int:
    """Try purchases, one round or until cancelled, and `show` each; gives how many have failed."""
    async with app.opened(path, environment) as migration, proofs(migration) as proof:
        _, payments, gateway = described(migration.contract)
        if migration.contract.trial is None:
            raise Refused("the contract describes no trial", remedy="add `trial:`; see docs/reference/contract.md")

        async def tell(tried: Tried) -> None:
            for entry in tried.entries():
                await proof.control.record(entry)
            show(dict(tried.document()))

        trials = Trials(
            trial=migration.contract.trial,
            gateway=f"http://{gateway.listen}",
            payees={side: payee.name for side, payee in payments.payees.items()},
            owners=proof.control,
            ledgers=proof.ledgers,
            provider=proof.provider,
        )
        return await trials.rounds(every_s, tell)


def trial_line(tried: dict[str, Any]) -> str:
    """A trial as a line of text: what it was, and what failed."""
    failed = [f"{check['name']}: {check['why']}" for check in tried["checks"] if not check["passed"]]
    took_ms = sum(step["ms"] for step in tried["steps"])
    what = f"{tried['cohort']} {tried['moment']} its flip, at the {tried['side']}, order {tried['order']}, {took_ms} ms"
    return f"{'passed' if tried['passed'] else 'FAILED'}: {'; '.join([what, *failed])}"


async def trace(path: Path, environment: Environment, order: str) -> dict[str, Any]:
    """Where one order is recorded, link by link; `exit_code` is 69 if a link is missing."""
    async with app.opened(path, environment) as migration, proofs(migration) as proof:
        traced = await proof.tracer.trace(order)
        return _judged(traced.document(), clean=traced.proven)


async def audit(path: Path, environment: Environment, sample: int, seed: int) -> dict[str, Any]:
    """Trace a sample of the sales; `exit_code` is 69 if one lacks a link, or any sale stands in the wrong ledger."""
    async with app.opened(path, environment) as migration, proofs(migration) as proof:
        audited = await proof.tracer.audit(sample, seed)
        for entry in audited.entries():
            await proof.control.record(entry)
        return _judged(audited.document(), clean=audited.clean)


async def reconcile(path: Path, environment: Environment) -> dict[str, Any]:
    """Match the money; `exit_code` is 69 if something is unexplained."""
    async with app.opened(path, environment) as migration, proofs(migration) as proof:
        result = await proof.reconciled()
        return _judged(result.document(), clean=not result.unexplained)


async def score(path: Path, environment: Environment) -> dict[str, Any]:
    """Measure, then compute the score from the evidence alone, and put it there."""
    async with app.opened(path, environment) as migration, proofs(migration) as proof:
        await proof.reconciled()
        await proof.control.record(Entry("notices", await proof.custody.totals()))
        async with Line(migration.dsns["control"], "the control database") as line, line.connection() as connection:
            result = scores.score(await evidence.entries(connection))
        await proof.control.record(result.entry())
        return result.facts()


def _judged(document: Any, *, clean: bool) -> dict[str, Any]:
    return {"exit_code": 0 if clean else NeedsOperator.exit_code, **document}


async def export(path: Path, environment: Environment) -> str:
    """The signed bundle of all evidence, as text."""
    async with _log(path, environment) as (connection, key):
        return await evidence.bundle(connection, key)


async def checkpoint(path: Path, environment: Environment) -> str:
    """The log as it is now, signed: for somebody outside to keep."""
    async with _log(path, environment) as (connection, key):
        await evidence.sequence(connection)
        return await evidence.checkpoint(connection, key)


async def public_key(path: Path, environment: Environment) -> str:
    """What a verifier has to know: the log's public key."""
    return signing_key(contracts.load(path, environment.variables), environment).vkey


async def report(path: Path, environment: Environment, language: str) -> str:
    """The report as one page of HTML, made from a bundle and nothing else."""
    return make(Bundle.read(await export(path, environment)), language)


def signing_key(contract: Contract, environment: Environment) -> SigningKey:
    """The migration's own key, made at first use; it never leaves the state directory."""
    return SigningKey.load_or_make(environment.state_dir(contract.name) / _KEY, contract.name)


@asynccontextmanager
async def _log(path: Path, environment: Environment) -> AsyncIterator[tuple[Connection, SigningKey]]:
    contract = contracts.load(path, environment.variables)
    async with AsyncExitStack() as stack:
        dsns = await app.databases(contract, environment, stack)
        if "control" not in dsns:
            raise Refused("the contract has no tenants: nothing of it is evidence", remedy="add `tenant:`")
        line = await stack.enter_async_context(Line(dsns["control"], "the control database"))
        connection = await stack.enter_async_context(line.connection())
        if not await evidence.installed(connection):
            raise NeedsOperator("there is no evidence yet", remedy="start alih serve: it writes from its first step on")
        yield connection, signing_key(contract, environment)
