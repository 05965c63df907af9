"""`python -m demo`: a live shop is moved to another back end while shoppers keep buying. Takes a few minutes."""

import asyncio
import os
import shutil
import sys
from pathlib import Path

from rich.console import Console

from demo.story.ending import conclude
from demo.story.screen import View, shown
from demo.story.story import Ending, Script, tell
from demo.story.world import CommandFailed, started

OUT = Path("out/demo").absolute()
_INTERRUPTED = 130


async def _told(console: Console) -> Ending:
    view = View()
    async with shown(view, console), started(OUT, dict(os.environ)) as world:
        return await tell(world, view, OUT, Script())


def main() -> int:
    """Tell the story; the exit code is 0 only if every promise that is measured was kept."""
    console = Console(highlight=False)
    shutil.rmtree(OUT, ignore_errors=True)
    return conclude(asyncio.run(_told(console)), OUT, console)


if __name__ == "__main__":
    code = 1
    try:
        code = main()
    except* CommandFailed as failed:
        Console(stderr=True).print(*failed.exceptions, sep="\n", markup=False, soft_wrap=True)
    except* KeyboardInterrupt:
        code = _INTERRUPTED
    sys.exit(code)
