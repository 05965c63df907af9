"""`alih` with a fault planted: python -P tests/support/faulty.py POINT ACTION NTH -- ARGUMENTS OF ALIH.

The fault strikes when the process comes to POINT (a member of `alih.faults.Point`) for the NTH time, once:

- KILL: as by `kill -9`
- CUT: every connection to a database is gone, in both directions
- DEAFEN: what is asked of a database from now on is done, and the answer is lost
- STOP: it stands still there until somebody sends it SIGCONT, so that a test can do what it likes meanwhile
"""

import os
import signal
import socket
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path

from alih import faults
from alih.cli import main
from alih.faults import Point


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


if __name__ == "__main__":
    point, action, nth, dashes, *arguments = sys.argv[1:]
    if dashes != "--":
        raise SystemExit(__doc__)
    faults.plant(Planted(Point(point), Action(action), int(nth)))
    sys.argv[1:] = arguments
    main()
