"""What is written at the source before a stream is measured: a file a kind.

Each reads two settings: bench.rows, the number of rows that stay (1 to that) and of the changes, a multiple of 1000;
and bench.round. What one round inserts, the deletes of the same round take away.
"""

from importlib.resources import files
from typing import LiteralString


def statement(kind: str) -> LiteralString:
    """Only files shipped with alih can be named, so the text counts as literal."""
    text: LiteralString = files(__package__).joinpath(f"{kind.replace(' ', '_')}.sql").read_text(encoding="utf-8")
    return text
