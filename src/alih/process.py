"""Child processes that end when we end, however we end.

A child starts in a session of its own, so the terminal's Ctrl-C reaches only us and we stop our children in order.
Beside each child stands a guardian, a few lines of shell that read from a pipe whose other end only we hold. When
we are gone, by kill -9 too, the pipe ends: the guardian then ends the child and removes what it would have left.
"""

import asyncio
import os
import pwd
import shutil
import signal
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from alih.errors import NeedsOperator

# The program starts only after its guardian stands: until then it waits for a line, and no line means we died.
_GATE = 'read -r _ && exec "$@" </dev/null'

# A line says that the child has ended; the end of the pipe without one says that we have.
# $1 the child, $2 the signal that ends it at once, $3 what to remove (or nothing).
_GUARDIAN = """
read -r _ && exit 0
kill -s "$2" "$1"
left=15
while [ "$left" -gt 0 ] && kill -0 "$1"; do left=$((left - 1)); sleep 0.1; done
kill -s KILL -- "-$1"
[ -z "$3" ] || rm -rf -- "$3"
"""

_HARD_GRACE_S = 2.0  # from the hard signal to SIGKILL; Postgres needs some tens of milliseconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """An account of this machine that a child runs as."""

    uid: int
    gid: int


def unprivileged_account() -> Account | None:
    """The account for programs that refuse to run as root: `nobody`; None when we are not root ourselves."""
    if os.geteuid() != 0:
        return None
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        raise NeedsOperator(
            "this machine has no account 'nobody', and a database server refuses to run as root",
            remedy="run alih as an ordinary user, or give it DSNs of databases that run elsewhere",
        ) from None
    return Account(uid=nobody.pw_uid, gid=nobody.pw_gid)


class Child(asyncio.SubprocessProtocol):
    """A running child. Its output goes to the log that it was started with."""

    def __init__(self, *, stop_signal: signal.Signals, hard_signal: signal.Signals) -> None:
        self._stop_signal = stop_signal
        self._hard_signal = hard_signal
        self._ended = asyncio.Event()
        self._guardian_fd: int | None = None
        self._transport: asyncio.SubprocessTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.SubprocessTransport):
            raise TypeError(transport)
        self._transport = transport

    def process_exited(self) -> None:
        # At once: the process id is free from here on, and the guardian must not end a stranger.
        self._ended.set()
        self._release_guardian(b"ended\n")

    @property
    def pid(self) -> int:
        """The process id, the same from start to end."""
        return self._started.get_pid()

    @property
    def returncode(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        return self._started.get_returncode()

    async def wait(self) -> int:
        """Wait for the end and return its exit code, negative for a signal."""
        await self._ended.wait()
        code = self.returncode
        return 0 if code is None else code

    async def stop(self, how: signal.Signals | None = None, grace_s: float = 10.0) -> int:
        """End it: by `how`, after `grace_s` seconds by its hard signal, then by SIGKILL with all its process group."""
        for number, patience_s in ((how or self._stop_signal, grace_s), (self._hard_signal, _HARD_GRACE_S)):
            self._send(number)
            if await self._ended_within(patience_s):
                return await self.wait()
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        return await self.wait()

    @property
    def _started(self) -> asyncio.SubprocessTransport:
        if self._transport is None:
            raise RuntimeError("the child has not been started")
        return self._transport

    def _send(self, number: signal.Signals) -> None:
        # Not through the transport: Popen would poll, and so take the exit code away from asyncio's watcher.
        if not self._ended.is_set():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    async def _ended_within(self, patience_s: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(patience_s):
                await self._ended.wait()
        return self._ended.is_set()

    @asynccontextmanager
    async def _guarded(self, removes: Path | None) -> AsyncIterator[Self]:
        reading, self._guardian_fd = os.pipe()
        try:
            with _closing_fd(reading):
                guardian = await self._start_guardian(reading, removes)
            if self._ended.is_set():  # ended before there was a guardian to be told
                self._release_guardian(b"ended\n")
            try:
                yield self
            finally:
                self._release_guardian(b"")
                await guardian.wait()
        finally:
            self._release_guardian(b"")

    async def _start_guardian(self, reading: int, removes: Path | None) -> asyncio.subprocess.Process:
        arguments = (str(self.pid), self._hard_signal.name.removeprefix("SIG"), str(removes or ""))
        return await asyncio.create_subprocess_exec(
            *("/bin/sh", "-c", _GUARDIAN, "alih-guardian", *arguments),
            stdin=reading,
            # Never our own output: whoever reads that would wait for the guardian's end as well as ours.
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )

    def _release_guardian(self, word: bytes) -> None:
        if self._guardian_fd is not None:
            with suppress(BrokenPipeError):
                os.write(self._guardian_fd, word)
            os.close(self._guardian_fd)
            self._guardian_fd = None


@asynccontextmanager
async def child(
    argv: Sequence[str],
    *,
    log: Path,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    account: Account | None = None,
    pass_fds: Sequence[int] = (),
    removes: Path | None = None,
    stop_signal: signal.Signals = signal.SIGTERM,
    hard_signal: signal.Signals = signal.SIGTERM,
) -> AsyncIterator[Child]:
    """Run `argv` while the context is open; leaving it ends the child by `stop_signal`, within some 12 seconds.

    `env` None inherits ours. Output is appended to `log` (mode 600). `hard_signal` is what ends the program at once
    and cleanly; the guardian uses it, and then removes `removes`, should we die first. A program that cannot be
    found raises NeedsOperator; one that cannot run as `account` ends with 126.
    """
    if shutil.which(argv[0]) is None:
        raise NeedsOperator(f"the program {argv[0]} is not there", remedy="install it, or correct its name")
    running = Child(stop_signal=stop_signal, hard_signal=hard_signal)
    credentials: dict[str, Any] = (
        {} if account is None else {"user": account.uid, "group": account.gid, "extra_groups": []}
    )
    with ExitStack() as opened:
        reading, writing = (opened.enter_context(_closing_fd(fd)) for fd in os.pipe())
        output = opened.enter_context(_closing_fd(_open_log(log)))
        transport, _ = await asyncio.get_running_loop().subprocess_exec(
            lambda: running,
            *("/bin/sh", "-c", _GATE, argv[0], *argv),
            stdin=reading,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env=env,
            cwd=cwd,
            pass_fds=pass_fds,
            **credentials,
        )
        with closing(transport):
            async with running._guarded(removes):  # noqa: SLF001 - the two make one thing: a guarded child
                os.write(writing, b"start\n")
                opened.close()
                try:
                    yield running
                finally:
                    await running.stop()


def _open_log(path: Path) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)


@contextmanager
def _closing_fd(fd: int) -> Iterator[int]:
    try:
        yield fd
    finally:
        os.close(fd)
