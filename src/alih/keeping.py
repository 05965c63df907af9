"""What is kept for proof while `alih serve` runs: notices before they are answered, sales seen at the gateway, and the
evidence, numbered and signed."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from alih import app, proving
from alih.app import Migration
from alih.config import Environment
from alih.errors import NeedsOperator, Retryable
from alih.evidence.entry import Entry
from alih.gateway.bootstrap import SALES_LOG, Sold
from alih.gateway.offered import Template
from alih.gateway.wire import listening
from alih.model.cohorts import SHARED_COHORT, assign
from alih.model.commerce import Rules
from alih.model.contract import Contract
from alih.payments.custody import custody_app
from alih.payments.delivery import Delivery, Sweep
from alih.postgres import evidence
from alih.postgres.custody import Custody, alone, still_alone
from alih.postgres.line import Line
from alih.postgres.seen import SeenStore
from alih.postgres.session import connect
from alih.process import child
from alih.proof.seen import keep_seen

_RESTART_S = 1.0
_GRACE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeping:
    """What the gateway has to know of it: the path template of notices, and the call that is a sale."""

    notices: str | None
    sold: Sold | None


def keeping(contract: Contract) -> Keeping:
    notices = contract.operation(contract.payments.notices).front[1] if contract.payments else None
    if contract.sales is None:
        return Keeping(notices=notices, sold=None)
    method, path = contract.operation(contract.sales.seen_by).front
    return Keeping(notices=notices, sold=Sold(method=method, path=path))


async def install(migration: Migration, environment: Environment, tenants: list[str]) -> None:
    """The tables, and what the log says of the migration itself; safe to repeat."""
    key = proving.signing_key(migration.contract, environment)
    async with AsyncExitStack() as stack:
        line = await stack.enter_async_context(Line(migration.dsns["control"], "the control database"))
        await Custody(line).install()
        await SeenStore(line).install()
        async with line.connection() as connection:
            for entry in _introduced(migration.contract, tenants, key.vkey):
                await evidence.record_if_new(connection, entry)


def _introduced(contract: Contract, tenants: list[str], public_key: str) -> list[Entry]:
    tried = contract.trial.test_tenants if contract.trial else {}
    cohorts: dict[str, list[str]] = {}
    for tenant, cohort in assign(contract.cohorts, tenants, tried).items():
        if tenant not in tried.values() and cohort != SHARED_COHORT:
            cohorts.setdefault(cohort, []).append(tenant)
    payees = {side.value: payee.name for side, payee in contract.payments.payees.items()} if contract.payments else {}
    migration = Entry(
        "migration",
        {
            "name": contract.name,
            "contract_sha256": contract.sha256,
            "tenants": {cohort: sorted(members) for cohort, members in cohorts.items()},
            "test_tenants": dict(tried),
            "payees": {"source": payees.get("source"), "target": payees.get("target")},
            "public_key": public_key,
        },
    )
    return [migration] if contract.rules is None else [migration, _rules(contract.rules)]


def _rules(rules: Rules) -> Entry:
    deadline = rules.deadline.isoformat() if rules.deadline else None
    return Entry(
        "rules",
        {"weights": dict(rules.weights), "articles": [dict(each) for each in rules.articles], "deadline": deadline},
    )


async def keep(
    migration: Migration, path: Path, environment: Environment, gate: str, custody: str | None, tasks: asyncio.TaskGroup
) -> None:
    """Start what keeps: each goes on until `tasks` are cancelled, and waits while the control database is away."""
    key = proving.signing_key(migration.contract, environment)
    tasks.create_task(_on_a_line(migration, partial(evidence.keep_sequenced, key=key)))
    if migration.contract.sales is not None:
        log = environment.state_dir(migration.contract.name) / "gateway" / SALES_LOG
        tasks.create_task(_on_a_line(migration, lambda line: keep_seen(log, migration.contract, SeenStore(line))))
    if custody is not None:
        tasks.create_task(_keep_custody(custody, gate, path, environment, migration.contract.name))


async def _on_a_line(migration: Migration, work: Callable[[Line], Awaitable[None]]) -> None:
    async with Line(migration.dsns["control"], "the control database") as line:
        await work(line)


async def _keep_custody(address: str, gate: str, path: Path, environment: Environment, name: str) -> None:
    """Keep the custody process running. Killed, it is started again: what it had answered is kept, and what it had not
    is sent again by the provider."""
    log = environment.state_dir(name) / "custody.log"
    argv = [sys.executable, "-m", "alih", "custody", gate, str(path), "--listen", address]
    while True:
        async with child(argv, log=log) as custody:
            code = await custody.wait()
        if not (code < 0 or code == Retryable.exit_code):
            raise NeedsOperator(
                f"the custody of payment notices ended with {code}",
                remedy=f"its log is {log}; mend the cause, serve again",
            )
        await asyncio.sleep(_RESTART_S)


async def serve_custody(path: Path, environment: Environment, listen: str, gate: str) -> None:
    """The custody process: keep what comes, deliver what was kept, sweep for what did not come; until cancelled.

    Of several such processes one delivers and sweeps, the others only keep."""
    host, _, port = listen.rpartition(":")
    async with AsyncExitStack() as stack:
        migration = await stack.enter_async_context(app.opened(path, environment))
        proof = await stack.enter_async_context(proving.proofs(migration))
        _, payments, gateway = proving.described(migration.contract)
        line = await stack.enter_async_context(Line(migration.dsns["control"], "the control database"))
        await stack.enter_async_context(
            listening(custody_app(Custody(line), payments.payees), host, int(port), grace_s=_GRACE_S)
        )
        leader = await stack.enter_async_context(await connect(migration.dsns["control"], "the control database"))
        await alone(leader)
        notices = Template(migration.contract.operation(payments.notices).front[1])
        (tenant,) = Template(gateway.tenant_path).names
        sweep = Sweep(
            proof.custody, proof.provider, proof.ledgers.open_charges, lambda each: notices.filled({tenant: each})
        )
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        tasks.create_task(Delivery(proof.custody, gate, proof.session).deliver_forever())
        tasks.create_task(sweep.sweep_forever())
        tasks.create_task(still_alone(leader))
