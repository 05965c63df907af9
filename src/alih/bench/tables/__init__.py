"""The tables that are measured, a directory a kind: `source.sql`, `target.sql`, `rows.sql` and the contract.

A kind has only what is its own; the rest is as in `mapped`.
"""

from importlib.resources import as_file, files
from pathlib import Path
from typing import LiteralString

_REST = "mapped"


def statement(kind: str, name: str) -> LiteralString:
    """The text of a kind's `name`.sql. Only files shipped with alih can be named, so the text counts as literal."""
    own, rest = (files(__package__).joinpath(of, f"{name}.sql") for of in (kind, _REST))
    text: LiteralString = (own if own.is_file() else rest).read_text(encoding="utf-8")
    return text


def contract(kind: str, directory: Path) -> Path:
    """A copy of the kind's contract in `directory`."""
    with as_file(files(__package__).joinpath(kind, "alih.yaml")) as shipped:
        place = directory / f"{kind}.yaml"
        place.write_bytes(shipped.read_bytes())
    return place
