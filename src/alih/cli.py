"""The command line: arguments in, text or `--json` out. Exit codes say what the reader has to do (alih.errors)."""

import asyncio
import json
import signal
import sys
from collections.abc import Coroutine, Iterator
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Never, TypeVar

import typer
from rich.console import Console

from alih import __version__, comparing, faces, proving
from alih.bench import commands as benches
from alih.bench.commands import What
from alih.bench.pairs import LEAST
from alih.config import Environment
from alih.errors import AlihError, NeedsOperator, Refused
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


class Language(StrEnum):
    """Languages that the report is written in."""

    EN = "en"
    ID = "id"


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
    data: Annotated[bool, typer.Option("--data", help="read all rows: would each cross, and come back?")] = False,
) -> None:
    """Check the contract against both databases: lineage of every field, and what rights and settings are missing."""
    _run(faces.check(contract, _environment(), sql, out.print, data=data))


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
    _judge(faces.cutover(cohort, contract, _environment()), as_json)


@app.command()
def finish(
    cohort: Annotated[str, typer.Argument(help="the cohort whose way back is closed")],
    contract: Contract = DEFAULT,
    as_json: AsJson = False,
) -> None:
    """Close a cohort's way back: its money is explained to the last rupiah, its rows were found equal once more."""
    _judge(faces.finish(cohort, contract, _environment()), as_json)


@app.command()
def trial(
    contract: Contract = DEFAULT,
    every: Annotated[str | None, typer.Option(help="go on until Ctrl-C, a round each `30s` or `5m`")] = None,
    as_json: AsJson = False,
) -> None:
    """Try a purchase in each cohort's test shop, from the promotion's link to the refund."""
    every_s = None if every is None else _seconds(every)
    failed = _run(proving.trial(contract, _environment(), every_s, partial(_show_line, as_json=as_json)))
    raise typer.Exit(NeedsOperator.exit_code if failed else 0)


@app.command()
def trace(
    order: Annotated[str, typer.Argument(help="the order's id")], contract: Contract = DEFAULT, as_json: AsJson = False
) -> None:
    """Where one order is recorded: gateway, owner, ledger, provider, invoice."""
    _judge(proving.trace(contract, _environment(), order), as_json)


@app.command()
def audit(
    contract: Contract = DEFAULT,
    sample: Annotated[int, typer.Option(min=1, max=100_000, help="how many sales are traced")] = 200,
    seed: Annotated[int, typer.Option(help="the same seed draws the same sales")] = 0,
    as_json: AsJson = False,
) -> None:
    """Trace a sample of the sales, and look for every sale in the wrong ledger."""
    _judge(proving.audit(contract, _environment(), sample, seed), as_json)


@app.command()
def reconcile(contract: Contract = DEFAULT, as_json: AsJson = False) -> None:
    """Match orders, charges, the provider's word and the books, by payee, shop and day, to the last rupiah."""
    _judge(proving.reconcile(contract, _environment()), as_json)


@app.command()
def score(contract: Contract = DEFAULT, as_json: AsJson = False) -> None:
    """How far the move is, by a formula that anybody can compute again from the evidence."""
    _show(_run(proving.score(contract, _environment())), as_json)


@app.command()
def report(
    contract: Contract = DEFAULT,
    lang: Annotated[Language, typer.Option(help="its language")] = Language.EN,
    output: Annotated[Path, typer.Option("--output", "-o", help="where to write it")] = Path("report.html"),
) -> None:
    """One page for an official, made from the evidence and nothing else."""
    _write(output, _run(proving.report(contract, _environment(), lang.value)))


evidence = typer.Typer(help="What was done and found, signed.", no_args_is_help=True)
app.add_typer(evidence, name="evidence")


@evidence.command()
def export(
    contract: Contract = DEFAULT,
    output: Annotated[Path, typer.Option("--output", "-o", help="where to write it")] = Path("evidence.jsonl"),
) -> None:
    """Write the bundle that `alih-verify` checks: one file that needs neither alih nor its database."""
    _write(output, _run(proving.export(contract, _environment())))


@evidence.command()
def checkpoint(contract: Contract = DEFAULT) -> None:
    """Print the log's signed checkpoint, for somebody outside to keep."""
    sys.stdout.write(_run(proving.checkpoint(contract, _environment())))


@evidence.command()
def key(contract: Contract = DEFAULT) -> None:
    """Print the public key that a verifier has to know."""
    out.print(_run(proving.public_key(contract, _environment())))


@app.command()
def worker() -> None:
    """Copy beside alih run or alih serve, from anywhere; asks for ALIH_SOURCE and ALIH_TARGET and for no contract."""
    _run(faces.worker(_environment(), out.print))


@app.command()
def pause(contract: Contract = DEFAULT) -> None:
    """Have workers begin no new chunk; changes are followed all the same."""
    _run(faces.pause(contract, _environment(), out.print, paused=True))


@app.command()
def resume(contract: Contract = DEFAULT) -> None:
    """Let workers go on after alih pause."""
    _run(faces.pause(contract, _environment(), out.print, paused=False))


@app.command()
def status(contract: Contract = DEFAULT, as_json: AsJson = False) -> None:
    """Lag, chunks, verdict and tenants at this moment."""
    _show(_run(faces.status(contract, _environment())), as_json)


@app.command()
def verify(contract: Contract = DEFAULT, as_json: AsJson = False) -> None:
    """Compare every row with its owner's, while writes go on; a stream has to be followed meanwhile."""
    _judge(comparing.verify(contract, _environment()), as_json)


@app.command()
def repair(contract: Contract = DEFAULT, as_json: AsJson = False) -> None:
    """Make the rows that alih verify found different equal to their owner's, while writes go on, and record it."""
    _judge(comparing.repair(contract, _environment()), as_json)


@app.command()
def bench(
    what: Annotated[What, typer.Argument(help="what is measured")],
    rows: Annotated[int | None, typer.Option(min=1000, help="how many rows a run moves")] = None,
    rounds: Annotated[int, typer.Option(min=1, help=f"runs of each; quote none below {LEAST}")] = LEAST,
    as_json: AsJson = False,
) -> None:
    """How fast the engine is on this machine, beside what bounds it and beside its peers: in throwaway databases."""
    _show(_run(benches.bench(what, rounds, rows)), as_json)


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


@app.command(hidden=True)
def custody(
    gate: Annotated[str, typer.Argument(help="host:port of the gate")],
    contract: Contract = DEFAULT,
    listen: Annotated[str, typer.Option()] = "127.0.0.1:0",
) -> None:
    """Keep payment notices and deliver them to their owner; alih serve starts this itself."""
    _run(faces.custody(contract, _environment(), listen, gate))


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


def _judge(work: Coroutine[Any, Any, dict[str, Any]], as_json: bool) -> Never:
    """Show what a command found; the exit code stands in it."""
    document = _run(work)
    _show(document, as_json)
    raise typer.Exit(document["exit_code"])


def _show_line(document: dict[str, Any], as_json: bool) -> None:
    """One result of several: a line of JSON, or of text."""
    if as_json:
        sys.stdout.write(json.dumps(document, ensure_ascii=False) + "\n")
        sys.stdout.flush()
    else:
        out.print(proving.trial_line(document))


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as failure:
        raise Refused(f"{path}: {failure.strerror}", remedy="name a file that can be written with --output") from None
    out.print(f"wrote {path}")


def _seconds(text: str) -> float:
    """`30s` or `5m` in seconds."""
    units = {"s": 1, "m": 60, "h": 3600}
    if text[-1:] not in units or not text[:-1].isdecimal():
        raise Refused(f"--every {text} is no duration", remedy="write it as in 30s, 5m or 1h")
    return float(int(text[:-1]) * units[text[-1]])


def _show(document: dict[str, Any], as_json: bool) -> None:
    if as_json:
        out.print(json.dumps(document, indent=2, ensure_ascii=False))
        return
    for line in faces.lines(document):
        out.print(line)
