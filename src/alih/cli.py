"""The command line: arguments in, text or `--json` out. Exit codes say what the reader has to do (alih.errors)."""

import asyncio
import json
import signal
import sys
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Annotated, Any, Never, TypeVar

import typer
from rich.console import Console

from alih import __version__, faces
from alih.config import Environment
from alih.errors import AlihError
from alih.model.projection import Direction
from alih.model.side import Side

_INTERRUPTED = 130  # as a shell reports a program ended by Ctrl-C
_UNEXPECTED = 70

app = typer.Typer(
    help="Move a live shop from one back end to another while shoppers keep buying, and prove it.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

out = Console(soft_wrap=True, highlight=False, markup=False)
err = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)

Contract = Annotated[Path, typer.Argument(help="the contract")]
AsJson = Annotated[bool, typer.Option("--json", help="print one JSON document")]
DEFAULT = Path("alih.yaml")
T = TypeVar("T")


@app.command()
def init(
    source: Annotated[str, typer.Option(envvar="ALIH_SOURCE", help="DSN of the source")],
    target: Annotated[str, typer.Option(envvar="ALIH_TARGET", help="DSN of the target")],
    contract: Annotated[Path, typer.Option("--output", "-o", help="where to write it")] = DEFAULT,
    name: Annotated[str, typer.Option(help="name of the migration")] = "migration",
) -> None:
    """Draft a contract from the two databases' catalogs; identical tables come out ready to run."""
    _run(faces.init(name, source, target, contract, out.print))


@app.command()
def check(
    contract: Contract = DEFAULT,
    sql: Annotated[Side | None, typer.Option(help="print only what this side's DBA has to run")] = None,
) -> None:
    """Check the contract against both databases: lineage of every field, and what rights and settings are missing."""
    _run(faces.check(contract, _environment(), sql, out.print))


@app.command()
def run(
    contract: Contract = DEFAULT,
    create_target: Annotated[bool, typer.Option("--create-target", help="make identical target tables first")] = False,
    until_verified: Annotated[bool, typer.Option("--until-verified", help="end with the verdict")] = False,
) -> None:
    """Copy, follow and verify; then keep following until Ctrl-C. Run it again and it goes on where it stopped."""
    _run(faces.run(contract, _environment(), out.print, create_target=create_target, until_verified=until_verified))


@app.command()
def serve(contract: Contract = DEFAULT) -> None:
    """The whole road of a migration with tenants: streams, gateway, gate, adapter; obeys alih cutover."""
    _run(faces.serve(contract, _environment(), out.print))


@app.command()
def cutover(
    cohort: Annotated[str, typer.Argument(help="the cohort to move; `shared` for the shared rows, at the end")],
    contract: Contract = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Move a cohort's tenants to the target, one hold each, while alih serve runs."""
    answer = _run(faces.cutover(cohort, contract, _environment()))
    _show(answer, as_json)
    raise typer.Exit(answer["exit_code"])


@app.command()
def status(contract: Contract = DEFAULT, as_json: AsJson = False) -> None:
    """Lag, chunks, verdict and tenants at this moment."""
    _show(_run(faces.status(contract, _environment())), as_json)


@app.command()
def verify(contract: Contract = DEFAULT, as_json: AsJson = False) -> None:
    """Compare every row with its owner's, while writes go on; a stream has to be followed meanwhile."""
    _show(_run(faces.verify(contract, _environment())), as_json)


@app.command()
def clean(contract: Contract = DEFAULT) -> None:
    """Remove every trace of the migration from both databases."""
    _run(faces.clean(contract, _environment(), out.print))


@app.command(hidden=True)
def follow(direction: Direction, contract: Contract = DEFAULT) -> None:
    """Follow one direction's log; alih run and alih serve start this themselves."""
    _run(faces.follow(direction, contract, _environment()))


@app.command(hidden=True)
def adapter(contract: Contract = DEFAULT, listen: Annotated[str, typer.Option()] = "127.0.0.1:0") -> None:
    """Answer the front end's calls from the target; alih serve starts this itself."""
    _run(faces.adapter(contract, _environment(), listen))


@app.callback(invoke_without_command=True)
def _version(version: Annotated[bool, typer.Option("--version", help="print the version")] = False) -> None:
    if version:
        out.print(__version__)
        raise typer.Exit


def main() -> None:
    """The entry point of the command `alih`."""
    try:
        app()
    except BaseExceptionGroup as several:
        _end(next(_leaves(several)))
    except (AlihError, KeyboardInterrupt, asyncio.CancelledError) as end:
        _end(end)
    except Exception as surprise:  # noqa: BLE001 - the last place to catch it: its text could hold a row's value
        _end(surprise)


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    """The group's exceptions, alih's own first: the others may be their consequence."""
    flat = [leaf for e in group.exceptions for leaf in (_leaves(e) if isinstance(e, BaseExceptionGroup) else [e])]
    yield from sorted(flat, key=lambda leaf: not isinstance(leaf, AlihError))


def _end(failure: BaseException) -> Never:
    match failure:
        case AlihError():
            err.print(str(failure))
            sys.exit(failure.exit_code)
        case KeyboardInterrupt() | asyncio.CancelledError():
            err.print("stopped; nothing is lost, the same command goes on from here")
            sys.exit(_INTERRUPTED)
        case _:
            err.print(f"alih failed unexpectedly: {type(failure).__name__} {_where(failure)}")
            err.print("  → this is a defect: report it with the command and this line; running it again is safe")
            sys.exit(_UNEXPECTED)


def _where(failure: BaseException) -> str:
    trace = failure.__traceback__
    places = []
    while trace is not None:
        places.append(f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}")
        trace = trace.tb_next
    return "at " + " < ".join(reversed(places[-6:]))


def _environment() -> Environment:
    return Environment.of_process()


def _run(work: Coroutine[Any, Any, T]) -> T:
    try:
        return asyncio.run(_cancelled_by_sigterm(work))
    except KeyboardInterrupt as stop:  # before typer sees it, which would say nothing
        _end(stop)


async def _cancelled_by_sigterm(work: Coroutine[Any, Any, T]) -> T:
    """SIGTERM ends us as Ctrl-C does: in order."""
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(work)
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    return task.result()


def _show(document: dict[str, Any], as_json: bool) -> None:
    if as_json:
        out.print(json.dumps(document, indent=2, ensure_ascii=False))
        return
    for line in faces.lines(document):
        out.print(line)
