"""The demo's machines: three database clusters, four services and alih itself, each a process of its own.

alih gets what a customer would give it: a contract, two DSNs of roles that are no superuser, and what its own
`alih check --sql` asks the databases' administrators to run.
"""

import asyncio
import itertools
import json
import secrets
import socket
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import psycopg

from alih.postgres.embedded import Cluster
from alih.process import Child, child
from demo.audit import Stores
from demo.seed import create_database, create_roles, create_schemas

CONTRACT = Path(__file__).parent.parent / "tiktok-shop-to-tokopedia" / "alih.yaml"
SERVICES = ("provider", "legacy", "marketplace", "social")
_ANSWERS_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What has been started, and where it is found."""

    gateway: str  # host:port that shoppers use
    dsns: Mapping[str, str] = field(repr=False)  # each service's own role
    admins: Mapping[str, str] = field(repr=False)  # legacy, marketplace: the administrator's DSN
    environment: Mapping[str, str] = field(repr=False)  # of alih's processes
    contract: Path
    logs: Path

    @property
    def stores(self) -> Stores:
        """What the audit reads."""
        return Stores(legacy=self.dsns["legacy"], marketplace=self.dsns["marketplace"], provider=self.dsns["provider"])

    async def alih(self, *arguments: str) -> str:
        """Run one of alih's commands on the contract to its end and give what it printed. Raises CommandFailed if it
        says so."""
        return await self.run("alih", *arguments, str(self.contract))

    async def document(self, *arguments: str) -> dict[str, Any]:
        """What one of alih's commands says with `--json`."""
        return await self.judged("alih", *arguments, "--json", str(self.contract))

    async def judged(self, module: str, *arguments: str) -> dict[str, Any]:
        """What a program that judges says as JSON, whether it is content or not: what it found is in the document."""
        printed, failed = await self._ended(module, *arguments)
        if failed and not printed.startswith("{"):
            raise failed
        document: dict[str, Any] = json.loads(printed)
        return document

    async def run(self, module: str, *arguments: str) -> str:
        """Run a program of the installation to its end and give what it printed."""
        printed, failed = await self._ended(module, *arguments)
        if failed:
            raise failed
        return printed

    async def _ended(self, module: str, *arguments: str) -> "tuple[str, CommandFailed | None]":
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", module, *arguments),
            env=dict(self.environment),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        printed, complaint = (part.decode() for part in await process.communicate())
        if not process.returncode:
            return printed, None
        said = f"{module} {' '.join(arguments)} ended with {process.returncode}"
        return printed, CommandFailed(f"{said}:\n{printed}{complaint}")

    @asynccontextmanager
    async def running(self, log: str, *arguments: str) -> AsyncIterator[Child]:
        """A command of alih that runs while the context is open, writing to a file of that name in `logs`."""
        argv = [sys.executable, "-m", "alih", *arguments, str(self.contract)]
        async with child(argv, log=self.logs / log, env=self.environment) as process:
            yield process


class CommandFailed(Exception):
    """A command of alih ended with an error; the text is what it said."""


@asynccontextmanager
async def started(out: Path, inherited: Mapping[str, str], contract: Path = CONTRACT) -> AsyncIterator[World]:
    """All but alih itself, started in order and stopped in the other one. Databases are empty but for schemas."""
    (out / "logs").mkdir(parents=True, exist_ok=True)
    state = out / "state"
    async with AsyncExitStack() as stack:
        clusters = {name: Cluster(state / name) for name in ("source", "target", "control")}
        for cluster in clusters.values():
            await stack.enter_async_context(cluster)
        world = await _furnished(clusters, out, inherited, contract)
        yield world


async def _furnished(clusters: Mapping[str, Cluster], out: Path, inherited: Mapping[str, str], contract: Path) -> World:
    homes = {"legacy": "source", "social": "source", "marketplace": "target", "provider": "control"}
    for name in {"source", "target", "control"}:
        create_roles(clusters[name].dsn())
    dsns = {}
    for service, home in homes.items():
        create_database(clusters[home].dsn(), service)
        dsns[service] = clusters[home].dsn(service, f"{service}_app")
    create_schemas(**dsns)
    admins = {"legacy": clusters["source"].dsn("legacy"), "marketplace": clusters["target"].dsn("marketplace")}
    for admin in admins.values():
        _make_role(admin)
    ports = {name: _free_address() for name in ("gateway", *SERVICES)}
    return World(
        gateway=ports["gateway"],
        dsns=dsns,
        admins=admins,
        environment={
            **inherited,
            **_addresses(ports),
            **_secrets(dsns, clusters),
            "XDG_STATE_HOME": str(out / "state"),
        },
        contract=contract,
        logs=out / "logs",
    )


def _make_role(admin: str) -> None:
    """alih's own role: it may log in, and has to ask for everything else."""
    with psycopg.connect(admin) as connection:
        connection.execute("CREATE ROLE alih LOGIN")


def _addresses(ports: Mapping[str, str]) -> dict[str, str]:
    return {
        "ALIH_GATEWAY": ports["gateway"],
        "ALIH_FRONT": ports["social"],
        "ALIH_LEGACY": ports["legacy"],
        "ALIH_MARKETPLACE": ports["marketplace"],
        "DEMO_PROVIDER": ports["provider"],
        "PROVIDER_URL": f"http://{ports['provider']}",
        "NOTICE_BASE": f"http://{ports['gateway']}",
    }


def _secrets(dsns: Mapping[str, str], clusters: Mapping[str, Cluster]) -> dict[str, str]:
    payees = {payee: secrets.token_hex(16) for payee in ("social", "marketplace")}
    return {
        **{f"{service.upper()}_DSN": dsn for service, dsn in dsns.items()},
        "ALIH_SOURCE": clusters["source"].dsn("legacy", "alih"),
        "ALIH_TARGET": clusters["target"].dsn("marketplace", "alih"),
        "ALIH_CONTROL": clusters["control"].dsn(),
        "MARKETPLACE_TOKEN": secrets.token_urlsafe(24),
        "PAYEE_KEYS": ",".join(f"{payee}={key}" for payee, key in payees.items()),
        **{f"PAYEE_{payee.upper()}": key for payee, key in payees.items()},
    }


@asynccontextmanager
async def services(world: World) -> AsyncIterator[None]:
    """The back ends and the front end, answering."""
    addresses = {
        "provider": world.environment["DEMO_PROVIDER"],
        "legacy": world.environment["ALIH_LEGACY"],
        "marketplace": world.environment["ALIH_MARKETPLACE"],
        "social": world.environment["ALIH_FRONT"],
    }
    async with AsyncExitStack() as stack:
        for name, address in addresses.items():
            argv = [sys.executable, "-m", f"demo.services.{name}", "--listen", address]
            log = world.logs / f"{name}.log"
            await stack.enter_async_context(child(argv, log=log, env=world.environment))
        for address in addresses.values():
            await answering(f"http://{address}/")
        yield


async def answering(url: str, *, served: bool = False) -> None:
    """Return when `url` answers at all, or (served) other than 503. Raises TimeoutError when that takes too long."""
    async with aiohttp.ClientSession() as session, asyncio.timeout(_ANSWERS_WITHIN_S):
        for _ in itertools.count():
            if await _answers(session, url, served=served):
                return
            await asyncio.sleep(0.1)


async def _answers(session: aiohttp.ClientSession, url: str, *, served: bool) -> bool:
    try:
        async with session.get(url) as answer:
            return not served or answer.status != 503
    except aiohttp.ClientConnectionError:
        return False


async def set_faults(world: World, faults: Mapping[str, float]) -> None:
    """From now on the provider makes these faults."""
    url = f"http://{world.environment['DEMO_PROVIDER']}/sandbox/faults"
    async with aiohttp.ClientSession() as session, session.post(url, json=dict(faults)) as answer:
        answer.raise_for_status()


async def grant(world: World) -> None:
    """What the two databases' administrators do: read what `alih check` asks for, and run it."""
    for side, admin in (("source", world.admins["legacy"]), ("target", world.admins["marketplace"])):
        statements = await world.alih("check", "--sql", side)
        with psycopg.connect(admin, autocommit=True) as connection:
            connection.execute(statements.encode())


def _free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"
