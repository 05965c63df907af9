"""The documentation against the program: links, commands, the contract's keys, exit codes, make targets."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import click
import pytest
import typer.main
from pydantic import BaseModel

from alih import cli, errors
from alih.contract import shape

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / "demo").rglob("*.md"),
        *(ROOT / "benchmarks").glob("*.md"),
    ]
)

SECTIONS: Mapping[str, tuple[type[BaseModel], ...]] = {
    "Top level": (shape.ContractShape,),
    "A database": (shape.EndpointShape,),
    "The tenant": (shape.TenantShape,),
    "An entity": (shape.EntityShape,),
    "Rows by way of a parent": (shape.ViaShape,),
    "A field's rule": (
        shape.PlainShape,
        shape.CodedShape,
        shape.LinkShape,
        shape.OffsetShape,
        shape.SqlShape,
        shape.ConstantShape,
    ),
    "The copy": (shape.CopyShape,),
    "A cohort": (shape.CohortShape,),
    "The gateway": (shape.GatewayShape,),
    "Where the tenant is found": (shape.TenantFromShape,),
    "An operation": (shape.OperationShape,),
    "A value": (shape.ValueShape, shape.EachShape, shape.FixedShape),
    "Sales": (shape.SalesShape,),
    "Orders": (shape.OrdersShape,),
    "Charges": (shape.ChargesShape,),
    "Refunds": (shape.RefundsShape,),
    "Books": (shape.BooksShape,),
    "Payments": (shape.PaymentsShape,),
    "Payees": (shape.PayeesShape,),
    "A payee": (shape.PayeeShape,),
    "The trial": (shape.TrialShape,),
    "A step": (shape.StepShape,),
    "A part": (shape.CutShape,),
    "The rules": (shape.RulesShape,),
    "Weights": (shape.WeightsShape,),
    "An article": (shape.ArticleShape,),
    "In both languages": (shape.AsksShape,),
}
WITHOUT_KEYS = {"Shape", "ObjectShape"}  # the base, and a mapping of free names

FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
COMMAND = re.compile(r"(?<![\w./'\[=-])alih ([a-z][a-z-]*)([^\n|;#]*)")
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^(#{1,6}) (.+)$", re.MULTILINE)


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def _prose(text: str) -> str:
    """The page without its code."""
    return SPAN.sub("", FENCE.sub("", text))


def _code(text: str) -> Iterator[str]:
    """What a reader may type; blocks in another language than the shell's, or with a drawing, are none."""
    for language, block in FENCE.findall(text):
        if language in ("", "sh") and not re.search("[─│▶]", block):
            yield from block.splitlines()
    yield from SPAN.findall(FENCE.sub("", text))


def _anchors(text: str) -> set[str]:
    """The headings' anchors, as GitHub makes them."""
    titles = (title for _, title in HEADING.findall(FENCE.sub("", text)))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def _section(text: str, title: str) -> str:
    """From the heading to the next one of any depth."""
    parts = re.split(rf"^#+ {re.escape(title)}$", text, flags=re.MULTILINE)
    assert len(parts) == 2, f"one heading {title!r} is needed"
    return re.split(r"^#+ ", parts[1], flags=re.MULTILINE)[0]


def _first_cells(section: str, head: str) -> set[str]:
    """The first column of the section's table with that head."""
    table = section[section.index(f"| {head} |") :].partition("\n\n")[0]
    return set(re.findall(r"^\| `([^`|]+)` \|", table, flags=re.MULTILINE))


def _commands() -> Mapping[str, click.Command]:
    group = typer.main.get_command(cli.app)
    return {name: command for name, command in getattr(group, "commands").items() if not command.hidden}  # noqa: B009


def _keys(*models: type[BaseModel]) -> set[str]:
    return {field.alias or name for model in models for name, field in model.model_fields.items()}


def _choices(annotation: Any) -> Iterator[str]:  # any type annotation
    if get_origin(annotation) is Literal:
        yield from (str(choice).lower() for choice in get_args(annotation))
    for part in get_args(annotation):
        yield from _choices(part)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(_prose(page.read_text("utf-8"))):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        there = (page.parent / path).resolve() if path else page
        assert there.exists(), f"{link} leads nowhere"
        if anchor:
            assert anchor in _anchors(there.read_text("utf-8")), f"{link}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_command_shown_exists(page: Path) -> None:
    commands = _commands()
    for line in _code(page.read_text("utf-8")):
        for name, arguments in COMMAND.findall(line.partition("#")[0]):
            assert name in commands, f"there is no `alih {name}`"
            offered = {option for parameter in commands[name].params for option in parameter.opts} | {"--help"}
            assert set(re.findall(r"(?<!\S)--?[a-z][a-z-]*", arguments)) <= offered, line


def test_every_command_is_listed() -> None:
    listed = _first_cells(_section((ROOT / "docs/index.md").read_text("utf-8"), "Commands"), "command")
    assert {cell.removeprefix("alih ") for cell in listed} == _commands().keys()


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_make_target_shown_exists(page: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), flags=re.MULTILINE))
    for line in _code(page.read_text("utf-8")):
        for words in re.findall(r"(?<![\w/])make((?: [a-z-]+)+)", line.partition("#")[0]):
            assert set(words.split()) <= targets, line


def test_no_shape_of_the_contract_is_left_out() -> None:
    shapes = {name for name, value in vars(shape).items() if isinstance(value, type) and name.endswith("Shape")}
    assert shapes - WITHOUT_KEYS == {model.__name__ for models in SECTIONS.values() for model in models}


@pytest.mark.parametrize("title", SECTIONS)
def test_the_reference_has_each_key_and_no_other(title: str) -> None:
    section = _section((ROOT / "docs/reference/contract.md").read_text("utf-8"), title)
    assert _first_cells(section, "key") == _keys(*SECTIONS[title])


@pytest.mark.parametrize("title", SECTIONS)
def test_the_reference_has_each_choice(title: str) -> None:
    section = _section((ROOT / "docs/reference/contract.md").read_text("utf-8"), title)
    fields = (field for model in SECTIONS[title] for field in model.model_fields.values())
    choices = {choice for field in fields for choice in _choices(field.annotation)}
    assert {choice for choice in choices if f"`{choice}`" not in section} == set()


def test_exit_codes_are_those_of_the_errors() -> None:
    page = (ROOT / "docs/reference/errors.md").read_text("utf-8")
    documented = {kind: int(code) for code, kind in re.findall(r"^\| (\d+) \| `(\w+)` \|", page, flags=re.MULTILINE)}
    assert documented == {kind.__name__: kind.exit_code for kind in errors.AlihError.__subclasses__()}


def test_exit_codes_of_the_command_line_are_documented() -> None:
    page = (ROOT / "docs/reference/errors.md").read_text("utf-8")
    assert f"| {cli._INTERRUPTED} | | ended by Ctrl-C or SIGTERM |" in page
    assert f"{cli._UNEXPECTED} also stands for a defect of alih itself" in page


def test_decisions_are_numbered_and_listed() -> None:
    files = sorted((ROOT / "docs/adr").glob("*.md"))
    titles = [file.read_text("utf-8").splitlines()[0] for file in files]
    assert [int(file.name[:4]) for file in files] == list(range(1, len(files) + 1))
    index = (ROOT / "docs/index.md").read_text("utf-8")
    for number, (file, title) in enumerate(zip(files, titles, strict=True), start=1):
        assert f"{number}. [{title.removeprefix(f'# {number}. ')}](adr/{file.name})" in index
