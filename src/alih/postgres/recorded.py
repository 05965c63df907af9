"""The rows of one side that record a sale, under the contract's fixed names.

The contract describes a sale once, over the source's columns. On the source that is read as it stands; on the target
the same expressions run over the rows as the way back shows them, so the two cannot drift apart (ADR 14).
`r` is a row of the table, `s` the same row in the source's columns.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from psycopg import sql

from alih.model.commerce import Records
from alih.model.projection import Assignment, Projection
from alih.model.side import Side
from alih.postgres.statements import trusted

_TYPES = {
    "order": "text", "amount": "bigint", "at": "timestamptz", "payee": "text", "reference": "text",
    "settled": "boolean", "settled_at": "timestamptz", "key": "text", "entry": "text", "received": "bigint",
}  # fmt: skip
_NOTHING = {"text": "''", "bigint": "0", "boolean": "false", "timestamptz": "to_timestamp(0)"}
_MAY_BE_NULL = frozenset({"order", "settled_at"})
_TENANT = "alih tenant"
_INTEGERS = frozenset({"smallint", "integer", "bigint"})
_INTEGER = re.compile(r"0|-?[1-9][0-9]*")  # as PostgreSQL prints it: `017` is another text
_COLUMN_AS_TEXT = re.compile(r'\s*(?:"((?:[^"]|"")+)"|([A-Za-z_]\w*))\s*(?:::\s*text\s*)?')


@dataclass(frozen=True, slots=True)
class Tenants:
    """These tenants, or (`others`) all but these."""

    names: tuple[str, ...] = ()
    others: bool = True

    def condition(self, tenant: sql.Composable) -> sql.Composed:
        if not self.names:
            return sql.SQL("{} IS NOT NULL").format(tenant) if self.others else sql.SQL("false").format()
        test = sql.SQL("{} <> ALL({}::text[])") if self.others else sql.SQL("{} = ANY({}::text[])")
        return test.format(tenant, sql.Literal(list(self.names)))


EVERYBODY = Tenants()


def tenants_of(side: Side, moved: Iterable[str]) -> Tenants:
    """The tenants that `side` owns, when the target owns those that have `moved`."""
    return Tenants(tuple(sorted(moved)), others=side is Side.SOURCE)


@dataclass(frozen=True, slots=True)
class Recorded:
    """The rows of one role on one side: the contract's columns under their fixed names, and `tenant`."""

    records: Records
    forward: Projection
    reverse: Projection
    side: Side

    def rows(self, orders: Sequence[str] | None = None) -> sql.Composed:
        """A sub-select without a name of its own, of these orders or of all."""
        shown = [
            sql.SQL("{} AS {}").format(trusted(self._shown(column)), sql.Identifier(column))
            for column in self.records.columns
        ]
        tenant = sql.SQL("s.{} AS tenant").format(sql.Identifier(_TENANT))
        where = sql.SQL("") if orders is None else sql.SQL(" WHERE {}").format(self._among(orders))
        return sql.SQL("(SELECT {}, {} FROM ({}) s{})").format(
            sql.SQL(", ").join(shown), tenant, self._source_rows, where
        )

    def _shown(self, column: str) -> str:
        """What cannot be shown (a code that the way back does not know) is as good as not recorded, and is found."""
        value = f"{self._expression(column)}::{_TYPES[column]}"
        return value if column in _MAY_BE_NULL else f"coalesce({value}, {_NOTHING[_TYPES[column]]})"

    def _expression(self, column: str) -> str:
        """As the contract has it and has checked it: `s` is all there is to take a column from."""
        return f"({self.records.columns[column]})"

    @property
    def _source_rows(self) -> sql.Composed:
        """The table's rows in the source's columns."""
        projection = self.forward if self.side is Side.SOURCE else self.reverse
        # On both sides those that cross and come back: no others may be named.
        columns = [
            sql.SQL("{} AS {}").format(self._value(back), sql.Identifier(back.column))
            for back in self.reverse.assignments
        ]
        return sql.SQL("SELECT {}, {} AS {} FROM {} r WHERE {}").format(
            sql.SQL(", ").join(columns),
            trusted(projection.tenant_read or "NULL::text"),
            sql.Identifier(_TENANT),
            sql.Identifier(projection.reads.schema, projection.reads.name),
            trusted(projection.reads_ours or "true"),
        )

    def _value(self, back: Assignment) -> sql.Composable:
        own = sql.SQL("r.{}").format(sql.Identifier(back.column))
        return own if self.side is Side.SOURCE else trusted(back.sent)

    def _among(self, orders: Sequence[str]) -> sql.Composed:
        """Whether the row's order is one of these: by its own column where the expression is only that column as
        text, for then an index can be used."""
        column, type_ = self._order_column
        if type_ in _INTEGERS:
            fitting = [o for o in orders if _INTEGER.fullmatch(o) and -(2**63) <= int(o) < 2**63]
            return sql.SQL("s.{} = ANY({}::bigint[])").format(
                sql.Identifier(column), sql.Literal(list(map(int, fitting)))
            )
        own = sql.SQL("s.{}").format(sql.Identifier(column)) if type_ == "text" else trusted(self._expression("order"))
        return sql.SQL("{} = ANY({}::text[])").format(own, sql.Literal(list(orders)))

    @property
    def _order_column(self) -> tuple[str, str]:
        """The column that holds the order's id, and its type; empty texts if the expression does more than that."""
        found = _COLUMN_AS_TEXT.fullmatch(self.records.columns["order"])
        if found is None:
            return "", ""
        quoted, plain = found.groups()
        name = quoted.replace('""', '"') if quoted else plain.lower()
        return name, next((back.type for back in self.reverse.assignments if back.column == name), "")
