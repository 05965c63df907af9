"""`alih bench`: its verbs on the command line."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import typer

from alih.bench import copy, pairs

app = typer.Typer(
    help="How fast the engine is on this machine, beside what bounds it and beside its peers (benchmarks/README.md).",
    no_args_is_help=True,
)

Rounds = Annotated[int, typer.Option(min=1, help=f"runs of each; a figure may be quoted from {pairs.LEAST} on")]
Rows = Annotated[int, typer.Option(min=1000, help="how many rows are moved in each run")]
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON document")]
Show = Callable[[dict[str, Any], bool], None]


def shown_by(show: Show) -> typer.Typer:
    """The verbs, printing through `show`."""

    @app.command("copy")
    def _copy(rows: Rows = 2_000_000, rounds: Rounds = pairs.LEAST, as_json: AsJson = False) -> None:
        """A table through its mapping, beside one and two raw pipes of psql, and pgcopydb where it is installed."""
        show(asyncio.run(copy.bench(rounds, rows)), as_json)

    return app
