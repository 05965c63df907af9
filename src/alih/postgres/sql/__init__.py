"""The queries of this package, one in each `.sql` file; a file's first comment names its parameters."""

from functools import cache
from importlib.resources import files
from typing import LiteralString


@cache
def query(name: str) -> LiteralString:
    """The text of `name`.sql. Only files shipped with alih can be named, so the text counts as literal."""
    text: LiteralString = files(__package__).joinpath(f"{name}.sql").read_text(encoding="utf-8")
    return text
