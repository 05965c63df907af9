"""A contract's entity in one direction: how a row read on one side is written on the other.

The engine (copy, follow, verify, reverse) knows only projections, so the way back is the same code as the way
there: a forward projection reads the source and writes the target, a backward one the reverse.

All SQL here is complete, qualified and already cast. Its row aliases are fixed:
`r` is the row on the reading side, `w` the row on the writing side.
"""

from dataclasses import dataclass
from enum import StrEnum

from alih.model.contract import Scope, Table
from alih.model.side import Side


class Direction(StrEnum):
    """Which way rows cross."""

    FORWARD = "forward"  # source → target
    REVERSE = "reverse"  # target → source

    @property
    def reads(self) -> Side:
        return Side.SOURCE if self is Direction.FORWARD else Side.TARGET

    @property
    def writes(self) -> Side:
        return self.reads.other


@dataclass(frozen=True, slots=True)
class ReadColumn:
    """A column of the reading side that alih asks for; `type` as `format_type` prints it, without length.

    `wire` is the type that its bytes are read as on the writing side, which may lack `type`: text for an enum, the
    base type of a domain; else the same.
    """

    name: str
    type: str
    key: bool
    wire: str


@dataclass(frozen=True, slots=True)
class Assignment:
    """A column of the writing side and the SQL over `r` that gives it, cast to the column's `type`.

    `inputs` are the read columns that the SQL uses: a row that arrives without one of them cannot set it.
    `update` is SQL over `r` and `w`, where an update of a row that is there sets another value than an insert: a
    column that keeps its value while what crossed of it is unchanged. None: both set `sql`.
    `returned` is SQL over `w`, on the way back only: what the column becomes once its row has crossed and come back.
    `sent` is the SQL for the reading side, which may lack `type`: its value has the same text, and in binary the
    column takes it as it is.
    """

    column: str
    type: str
    sql: str
    inputs: frozenset[str]
    key: bool
    sent: str
    update: str | None = None
    returned: str | None = None


@dataclass(frozen=True, slots=True)
class ParentRow:
    """How a row finds its tenant through a parent: this row's read column holds the parent's read-side key column.

    `write_column` and `parent_write_key` are the same two on the writing side.
    """

    entity: str
    column: str
    parent_key: str
    write_column: str
    parent_write_key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Projection:
    """One entity in one direction.

    read_columns    what is published, copied and staged, in table order; key columns flagged
    assignments     the writing side's columns, key columns first in key order
    reads_ours      SQL over `r`: rows of the reading side that belong to the moved shop; None means all
    writes_ours     the same over `w` on the writing side
    tenant_read     SQL over `r` giving the tenant's id (the source's id, as text) on the reading side's database,
                    sub-selects for a parent included; None for shared and reference rows
    tenant_write    the same over `w` on the writing side's database
                    (on the target both give NULL for a row, or for the child of a row, that is not `ours`)
    parent          set when the tenant comes through a parent
    """

    entity: str
    direction: Direction
    scope: Scope
    reads: Table
    writes: Table
    read_columns: tuple[ReadColumn, ...]
    assignments: tuple[Assignment, ...]
    reads_ours: str | None
    writes_ours: str | None
    tenant_read: str | None
    tenant_write: str | None
    parent: ParentRow | None
    links: frozenset[str]

    @property
    def read_key(self) -> tuple[ReadColumn, ...]:
        return tuple(c for c in self.read_columns if c.key)

    @property
    def write_key(self) -> tuple[Assignment, ...]:
        return tuple(a for a in self.assignments if a.key)
