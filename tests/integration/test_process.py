"""Children end in order when we leave, and at once when we are killed; the terminal's Ctrl-C does not reach them."""

import asyncio
import os
import signal
import stat
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from alih.errors import NeedsOperator
from alih.process import Child, child, unprivileged_account
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

# Says that it stands, and on SIGTERM that it was told to go.
STANDING = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: (print("told", flush=True), sys.exit(7)))
print("standing", flush=True)
while True: signal.pause()
"""
DEAF = """
import signal
for number in (signal.SIGTERM, signal.SIGINT): signal.signal(number, signal.SIG_IGN)
print("standing", flush=True)
while True: signal.pause()
"""
# A parent with one child; prints the child's process id, then waits to be killed.
PARENT = """
import asyncio, signal, sys
from pathlib import Path
from alih.process import child
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job starts with it ignored
async def main():
    log, program, debris = Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3])
    async with child([sys.executable, "-c", program], log=log, removes=debris) as running:
        print(running.pid, flush=True)
        await running.wait()
asyncio.run(main())
"""


def running(pid: int) -> bool:
    """Whether the process runs; one that waits for its parent to take the exit code does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def says(log: Path, word: str) -> bool:
    return log.exists() and word in log.read_text(encoding="utf-8").split()


@asynccontextmanager
async def parent_of(program: str, tmp_path: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, int]]:
    """A process that has started `program` as its child, and the child's process id."""
    log, debris = tmp_path / "log", tmp_path / "debris"
    debris.mkdir()
    (debris / "socket").touch()
    arguments = (str(log), program, str(debris))
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, *arguments, stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    try:
        await until(lambda: says(log, "standing"))
        yield parent, pid
    finally:
        if parent.returncode is None:
            parent.kill()
        await parent.communicate()


async def test_a_child_gets_its_arguments_and_environment_and_its_output_goes_to_a_private_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    program = "import os, sys; print(sys.argv[1:], os.environ['A'], sys.stdin.read() == '')"
    async with child([sys.executable, "-c", program, "x y", "$z"], log=log, env={"A": "b"}) as running_child:
        assert await running_child.wait() == 0
    assert log.read_text(encoding="utf-8") == "['x y', '$z'] b True\n"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


async def test_leaving_the_context_ends_the_child_by_its_stop_signal(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with child([sys.executable, "-c", STANDING], log=log) as running_child:
        await until(lambda: says(log, "standing"))
    assert running_child.returncode == 7
    assert log.read_text(encoding="utf-8").split() == ["standing", "told"]


async def test_a_child_that_ignores_its_signals_is_killed_when_the_grace_ends(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with child([sys.executable, "-c", DEAF], log=log) as running_child:
        await until(lambda: says(log, "standing"))
        assert await running_child.stop(grace_s=0.1) == -signal.SIGKILL


async def test_a_child_ends_when_the_body_raises(tmp_path: Path) -> None:
    log = tmp_path / "log"
    started: list[Child] = []

    async def fail_with_a_child() -> None:
        async with child([sys.executable, "-c", STANDING], log=log) as running_child:
            started.append(running_child)
            await until(lambda: says(log, "standing"))
            raise ValueError("the body's own")

    with pytest.raises(ValueError, match="the body's own"):
        await fail_with_a_child()
    assert started[0].returncode == 7


async def test_the_exit_code_of_a_child_that_ended_by_itself_stays(tmp_path: Path) -> None:
    async with child([sys.executable, "-c", "raise SystemExit(3)"], log=tmp_path / "log") as running_child:
        assert await running_child.wait() == 3
    assert running_child.returncode == 3


async def test_a_missing_program_is_named(tmp_path: Path) -> None:
    with pytest.raises(NeedsOperator, match="no-such-program is not there"):
        async with child(["no-such-program"], log=tmp_path / "log"):
            pass
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize("program", [STANDING, DEAF], ids=["polite", "deaf"])
async def test_killing_the_parent_ends_the_child_and_removes_what_it_would_leave(program: str, tmp_path: Path) -> None:
    async with parent_of(program, tmp_path) as (parent, pid):
        assert running(pid)
        parent.kill()
        await until(lambda: not running(pid), within_s=2.0)
        await until(lambda: not (tmp_path / "debris").exists(), within_s=2.0)


async def test_ctrl_c_reaches_the_parent_alone_which_stops_the_child_in_order(tmp_path: Path) -> None:
    async with parent_of(STANDING, tmp_path) as (parent, pid):
        assert os.getsid(pid) == pid  # so the signal to the parent's process group is none of the child's
        os.killpg(parent.pid, signal.SIGINT)
        assert await parent.wait() != 0
        assert not running(pid)
    assert says(tmp_path / "log", "told")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may change accounts")
async def test_as_root_a_child_may_run_as_nobody_without_any_group_of_ours(tmp_path: Path) -> None:
    log = tmp_path / "log"
    async with child(["/usr/bin/id", "-u"], log=log, account=unprivileged_account(), cwd=tmp_path) as running_child:
        assert await running_child.wait() == 0
    async with child(["/usr/bin/id", "-G"], log=log, account=unprivileged_account(), cwd=tmp_path) as running_child:
        assert await running_child.wait() == 0
    account = unprivileged_account()
    assert account is not None
    assert log.read_text(encoding="utf-8").split() == [str(account.uid), str(account.gid)]
