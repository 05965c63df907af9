"""The process that a bench of the copy measures: it copies one migration, and says what that took.

Prints one line of JSON: the seconds from the first statement of the copy to the last commit, and the most memory
that the process ever had, in bytes. Starting Python and reading the catalogs stand outside: a worker lives for the
whole of a move.
"""

import asyncio
import json
import sys
import time
from pathlib import Path

from alih import app
from alih.config import Environment
from alih.model.projection import Direction


async def _measured(contract: Path, workers: int) -> dict[str, float]:
    async with app.opened(contract, Environment.of_process()) as migration:
        engine = migration.engine(Direction.FORWARD)
        begun = time.perf_counter()
        await engine.copy(workers)
        seconds = time.perf_counter() - begun
    return {"seconds": seconds, "memory_bytes": _peak_bytes()}


def _peak_bytes() -> int:
    """The most memory that this program ever had; `ru_maxrss` would begin with that of the process which started it.

    Linux: proc_pid_status(5)."""
    (line,) = (line for line in Path("/proc/self/status").read_text("ascii").splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(_measured(Path(sys.argv[1]), int(sys.argv[2])))) + "\n")
