"""What a Postgres log says, as values: one class for each message of the pgoutput protocol.

https://www.postgresql.org/docs/current/protocol-logicalrep-message-formats.html
"""

from dataclasses import dataclass

NULL = b"\xff\xff\xff\xff"
"""A NULL as the binary COPY format writes it: length -1 and no bytes."""

Cell = bytes | None
"""One column of a row: its length and bytes as binary COPY writes them, NULL, or None for a large value
that the log left out because it did not change."""

Row = tuple[Cell, ...]


class Lsn(int):
    """A position in a server's log; compared as a number, printed as Postgres does (`16/B374D848`)."""

    def __str__(self) -> str:
        return f"{self >> 32:X}/{self & 0xFFFFFFFF:X}"

    @classmethod
    def parse(cls, text: str) -> "Lsn":
        high, low = text.split("/")
        return cls((int(high, 16) << 32) | int(low, 16))


@dataclass(frozen=True, slots=True)
class Relation:
    """The columns under which the rows that follow are sent, and their types' ids; `identity` is d, n, f or i."""

    id: int
    schema: str
    name: str
    identity: str
    columns: tuple[str, ...]
    types: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Begin:
    """The start of a committed transaction; `xid` is 32 bits wide."""

    commit_lsn: Lsn
    committed_us: int  # microseconds since 2000-01-01 UTC
    xid: int


@dataclass(frozen=True, slots=True)
class Commit:
    """The end of a transaction; `end_lsn` is where the next one may begin."""

    lsn: Lsn
    end_lsn: Lsn


@dataclass(frozen=True, slots=True)
class Insert:
    relation: int
    new: Row


@dataclass(frozen=True, slots=True)
class Update:
    """`old` is there only when a key column changed (then it holds the key, and NULL elsewhere) or when the
    table's replica identity is full (then it holds the whole row, and `full` is true)."""

    relation: int
    old: Row | None
    new: Row
    full: bool = False


@dataclass(frozen=True, slots=True)
class Delete:
    relation: int
    old: Row


@dataclass(frozen=True, slots=True)
class Truncate:
    relations: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Message:
    """A message that somebody wrote into the log with `pg_logical_emit_message`."""

    lsn: Lsn
    prefix: str
    content: bytes


@dataclass(frozen=True, slots=True)
class Ignored:
    """A message that says nothing of rows: the name of an origin, or of a type."""


Change = Insert | Update | Delete
LogMessage = Relation | Begin | Commit | Change | Truncate | Message | Ignored
