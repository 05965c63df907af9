"""What is asked of the rows that are there before any of them crosses, and what the answers are.

A question is a condition that must hold for no row. It is SQL over `r`, a row of the source, complete and qualified
like a projection's; `alih.postgres.rehearsal` asks it.
"""

from dataclasses import dataclass

from alih.model.contract import Scope, Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """`sql` is true for a row that will not do.

    `shows` is SQL over `r` for what names the trouble better than the row's key (a code, another row's id); None: the
    key. `first`: where it is true the other questions cannot be asked, for their SQL would fail. `back`: it is about
    the way back.
    """

    what: str
    sql: str
    remedy: str
    shows: str | None = None
    first: bool = False
    back: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Unique:
    """Columns of the target of which no two rows may have the same values, with their types and SQL over `r`.

    `alike`: two rows of the source may lead to the same values, so that has to be asked too.
    """

    columns: tuple[tuple[str, str, str], ...]
    alike: bool

    def __str__(self) -> str:
        return f"({', '.join(name for name, _, _ in self.columns)})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rehearsed:
    """One entity's rows and what is asked of them.

    `key` is SQL over `r`, `write_key` over `w`, a row of the target; `tenant` and `ours` as in the forward projection.
    `shifted` is the target's key column where the ids are offset, with SQL over `r` that gives it.
    """

    entity: str
    scope: Scope
    source: Table
    target: Table
    key: tuple[str, ...]
    write_key: tuple[str, ...]
    tenant: str | None
    ours: str | None
    questions: tuple[Question, ...]
    uniques: tuple[Unique, ...]
    shifted: tuple[str, str] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """Rows that will not do; `rows` is None where they could not be counted. `examples` are a few of their keys, or
    what the question shows: never other values. `fatal`: the entity's rows cannot be mapped at all."""

    entity: str
    what: str
    rows: int | None
    examples: tuple[str, ...]
    remedy: str
    fatal: bool = False

    def __str__(self) -> str:
        more = ", …" if (self.rows or 0) > len(self.examples) else ""
        named = f" ({', '.join(self.examples)}{more})" if self.examples else ""
        rows = "1 row" if self.rows == 1 else f"{self.rows or 'some'} rows"
        return f"{self.entity}: {rows}: {self.what}{named} → {self.remedy}"
