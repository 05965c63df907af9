"""What is written at the source before a stream is measured: a file a kind.

Each fills in {rows}, the number of rows that stay (1 to {rows}) and of the changes, a multiple of 1000; and {round}.
What one round inserts, the deletes of the same round take away.
"""

from importlib.resources import files
from typing import LiteralString

from psycopg import sql


def statement(kind: str, rows: int, number: int) -> sql.Composed:
    """Only files shipped with alih can be named, so the text counts as literal."""
    text: LiteralString = files(__package__).joinpath(f"{kind.replace(' ', '_')}.sql").read_text(encoding="utf-8")
    return sql.SQL(text).format(rows=sql.Literal(rows), round=sql.Literal(number))
