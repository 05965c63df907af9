"""SQL expressions of a contract: parsed to know their columns, and qualified without being rewritten.

sqlglot only tells where the columns stand; the text that runs is the author's own with `alias."column"` put in
those places, so nothing depends on how a parser would print an operator.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import TokenType

_PREFIX = "SELECT "
_DIALECT = "postgres"

_UNSTABLE_CALLS = frozenset({
    "now", "random", "random_normal", "clock_timestamp", "statement_timestamp", "transaction_timestamp", "timeofday",
    "nextval", "currval", "setval", "lastval", "gen_random_uuid", "uuidv4", "uuidv7", "uuid_generate_v1",
    "uuid_generate_v1mc", "uuid_generate_v4", "gen_random_bytes", "set_config", "current_setting", "txid_current",
    "pg_current_xact_id", "pg_sleep", "pg_backend_pid", "pg_notify", "dblink", "query_to_xml", "age_now",
})  # fmt: skip
_UNSTABLE_WORDS = frozenset({
    "current_timestamp", "current_date", "current_time", "localtime", "localtimestamp", "current_user",
    "session_user", "current_role", "user", "current_catalog", "current_schema",
})  # fmt: skip
_UNSTABLE_LITERALS = frozenset({"now", "today", "tomorrow", "yesterday"})
_TIME_TYPES = frozenset({"date", "time", "timestamp", "timestamptz", "timetz"})


class UnfitError(Exception):
    """An expression that alih does not run; `remedy` says what to write instead."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.what = what
        self.remedy = remedy


@dataclass(frozen=True, slots=True)
class Row:
    """A row by its alias in SQL. `casts` are the columns that are to be seen as another type, for where the SQL also
    runs the row has only that one. `made` gives SQL for columns of a row that is nowhere, but made of another one."""

    alias: str
    casts: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    made: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    def column(self, name: str) -> str:
        if name in self.made:
            return self.made[name]
        own = f"{self.alias}.{quoted(name)}"
        return f"({own}::{self.casts[name]})" if name in self.casts else own


@dataclass(frozen=True, slots=True)
class Parsed:
    """An expression over one row. `spans` are the (start, end) of its columns in `sql`, with their names."""

    sql: str
    spans: tuple[tuple[int, int, str], ...]

    @property
    def columns(self) -> frozenset[str]:
        return frozenset(name for _, _, name in self.spans)

    def over(self, row: Row) -> str:
        """The expression in parentheses with each column as one of `row`."""
        return self.through({name: row.column(name) for name in self.columns})

    def through(self, columns: Mapping[str, str]) -> str:
        """The expression in parentheses with each column replaced by the SQL given for it."""
        text = self.sql
        for start, end, name in sorted(self.spans, reverse=True):
            text = text[:start] + columns[name] + text[end:]
        return f"({text})"


def parse(sql: str) -> Parsed:
    """`sql` as one expression over the columns of one row; UnfitError when it is anything else."""
    _refuse_unstable_words(sql)
    try:
        statements = sqlglot.parse(_PREFIX + sql, dialect=_DIALECT)
    except SqlglotError:
        raise UnfitError("is no SQL expression that can be read", "write one PostgreSQL expression") from None
    if len(statements) != 1:
        raise UnfitError("holds several statements", "write one expression, without a semicolon")
    select = statements[0]
    if not isinstance(select, exp.Select) or len(select.expressions) != 1 or _clauses(select) != {"expressions"}:
        raise UnfitError("is not one expression", "write one expression: no list, no FROM, no clause")
    _refuse_parts(select)
    return Parsed(sql, tuple(_span(column) for column in select.find_all(exp.Column)))


def _clauses(select: exp.Select) -> set[str]:
    return {name for name, value in select.args.items() if value}


def _span(column: exp.Column) -> tuple[int, int, str]:
    name = column.this
    if not isinstance(name, exp.Identifier) or column.table:
        raise UnfitError("names a column with its table", "write the bare column name; it is qualified by alih")
    start = int(name.meta["start"]) - len(_PREFIX)
    end = int(name.meta["end"]) + 1 - len(_PREFIX)
    return start, end, str(name.this) if name.quoted else str(name.this).lower()


def _refuse_parts(select: exp.Select) -> None:
    for node in select.find_all(exp.Query, exp.Exists):
        if node is not select:
            raise UnfitError("holds a sub-select", "use columns of this row only; `link` and `via` reach other tables")
    if select.find(exp.AggFunc, exp.Window, exp.Star):
        raise UnfitError("looks at several rows", "use columns of this row only: no aggregate, no window, no *")
    if select.find(exp.Parameter, exp.Placeholder):
        raise UnfitError("holds a parameter", "write the value itself")
    if isinstance(select.expressions[0], exp.Alias):
        raise UnfitError("names its result", "leave out AS: the column's name stands before the colon")


def _refuse_unstable_words(sql: str) -> None:
    try:
        tokens = sqlglot.tokenize(sql, dialect=_DIALECT)
    except SqlglotError:
        raise UnfitError("is no SQL expression that can be read", "check its quotes") from None
    if any(t.comments for t in tokens):
        raise UnfitError("holds a comment", "write it behind a # of YAML")
    for i, token in enumerate(tokens):
        text = token.text.lower()
        called = i + 1 < len(tokens) and tokens[i + 1].token_type is TokenType.L_PAREN
        if token.token_type is TokenType.STRING:
            cast = i + 1 < len(tokens) and tokens[i + 1].token_type in (TokenType.DCOLON, TokenType.ALIAS)
            typed = i > 0 and tokens[i - 1].text.lower() in _TIME_TYPES
            unstable = text.strip() in _UNSTABLE_LITERALS and (cast or typed)
        elif token.token_type is TokenType.IDENTIFIER:
            unstable = called and text in _UNSTABLE_CALLS
        else:
            unstable = text in _UNSTABLE_WORDS or (called and text in _UNSTABLE_CALLS)
        if unstable:
            raise UnfitError(
                f"uses {text}, which gives another value each time",
                "use columns only: a row is mapped again when it is verified and must come out the same",
            )


def check_link(sql: str) -> None:
    """UnfitError unless `sql` is one SELECT of two columns: the source's id and the target's."""
    try:
        statements = sqlglot.parse(sql, dialect=_DIALECT)
    except SqlglotError:
        statements = []
    if len(statements) != 1 or not isinstance(statements[0], exp.Select) or len(statements[0].expressions) != 2:
        raise UnfitError("is not one SELECT of two columns", "SELECT source_id, target_id FROM … on the target")


def quoted(name: str) -> str:
    """`name` as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(value: str) -> str:
    """`value` as an SQL string literal (standard_conforming_strings on, as since PostgreSQL 9.1)."""
    return "'" + value.replace("'", "''") + "'"
