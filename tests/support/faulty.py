"""`alih` with a fault planted: python -P tests/support/faulty.py POINT ACTION NTH -- ARGUMENTS OF ALIH.

The fault strikes when the process comes to POINT (a value of `alih.faults.Point`) for the NTH time, once:

- kill: as by `kill -9`
- cut: every connection to a database is gone, in both directions
- deafen: what is asked of a database from now on is done, and the answer is lost
- stop: it stands still there until somebody sends it SIGCONT, so that a test can do what it likes meanwhile

Without arguments it is a nursery: it has read the code, and forks a process for each order, which is a line of JSON
({argv, fault, env, log}); it tells {pid} at once and {pid, code} when that process has ended. Its processes are killed
when it is told nothing more.
"""

import json
import os
import select
import signal
import socket
import sys
from collections.abc import Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, NoReturn

from alih import faults
from alih.cli import main
from alih.faults import Point

STRIKES = "the planted fault strikes"


class Action(StrEnum):
    KILL = "kill"
    CUT = "cut"
    DEAFEN = "deafen"
    STOP = "stop"


class Planted:
    """Strikes once, at the nth time."""

    def __init__(self, point: Point, action: Action, nth: int) -> None:
        self._point = point
        self._action = action
        self._left = nth

    def __call__(self, point: Point) -> None:
        if point is not self._point:
            return
        self._left -= 1
        if self._left == 0:
            print(STRIKES, flush=True)  # noqa: T201 - into the process's log, where the test looks for it
            strike(self._action)


def strike(action: Action) -> None:
    match action:
        case Action.KILL:
            os.kill(os.getpid(), signal.SIGKILL)
        case Action.STOP:
            os.kill(os.getpid(), signal.SIGSTOP)
        case Action.CUT:
            _shut_down(socket.SHUT_RDWR)
        case Action.DEAFEN:
            _shut_down(socket.SHUT_RD)


def _shut_down(how: int) -> None:
    for connection in _to_databases():
        connection.shutdown(how)
        connection.close()  # the copy of the descriptor; libpq keeps its own


def _to_databases() -> Iterator[socket.socket]:
    for entry in list(Path("/proc/self/fd").iterdir()):
        if not entry.is_symlink() or not str(entry.readlink()).startswith("socket:"):
            continue
        found = socket.socket(fileno=os.dup(int(entry.name)))
        if found.family == socket.AF_UNIX and ".s.PGSQL." in _peer(found):
            yield found
        else:
            found.close()


def _peer(found: socket.socket) -> str:
    """Where a connected socket leads to; a listening one leads nowhere."""
    try:
        return str(found.getpeername())
    except OSError:
        return ""


def run(fault: Sequence[str] | None, arguments: Sequence[str]) -> None:
    """Be `alih`."""
    if fault:
        point, action, nth = fault
        faults.plant(Planted(Point(point), Action(action), int(nth)))
    sys.argv = ["alih", *arguments]
    main()


# --- the nursery ----------------------------------------------------------------------------------------------


def nursery() -> None:
    """Fork a process for each order until there are no more orders, telling of each that ends."""
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(writing)
    children: set[int] = set()
    orders = b""
    while True:
        ready, _, _ = select.select([0, reading], [], [])
        if reading in ready:
            os.read(reading, 4096)
            _tell_of_the_ended(children)
        if 0 in ready:
            block = os.read(0, 65536)
            if not block:
                break
            *lines, orders = (orders + block).split(b"\n")
            children |= {_forked(json.loads(line)) for line in lines}
    for child in children:
        os.kill(child, signal.SIGKILL)


def _tell_of_the_ended(children: set[int]) -> None:
    for child in list(children):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            children.discard(child)
            print(json.dumps({"pid": child, "code": os.waitstatus_to_exitcode(status)}), flush=True)  # noqa: T201


def _forked(order: dict[str, Any]) -> int:
    pid = os.fork()
    if pid == 0:
        _become(order)
    print(json.dumps({"pid": pid}), flush=True)  # noqa: T201 - these lines are what the nursery is asked for
    return pid


def _become(order: dict[str, Any]) -> NoReturn:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    log = os.open(order["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for descriptor, place in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(descriptor, place)
    os.environ.clear()  # noqa: TID251
    os.environ.update(order["env"])  # noqa: TID251
    run(order["fault"], order["argv"])
    sys.exit(0)


if __name__ == "__main__":
    if len(sys.argv) == 1:
        nursery()
    elif len(sys.argv) > 4 and sys.argv[4] == "--":
        run(sys.argv[1:4], sys.argv[5:])
    else:
        raise SystemExit(__doc__)
