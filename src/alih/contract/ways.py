"""The SQL of single columns: the way there of each field, and the way back of each source column.

A way back is looked up, not derived: the field that reads nothing but the column and can be turned round, or the
entity's own `reverse`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from alih.contract import expression
from alih.contract.expression import Row, literal
from alih.model.catalog import ColumnInfo
from alih.model.contract import Coded, Constant, Entity, Expression, Field, Linked, Plain, Rule, Shifted


@dataclass(frozen=True, slots=True)
class Way:
    """SQL over a row giving one column, the columns of that row that it reads, the links that it needs."""

    sql: str
    inputs: frozenset[str]
    links: frozenset[str] = frozenset()

    def cast(self, column: ColumnInfo) -> "Way":
        """The same, cast to `column`'s type."""
        return Way(f"({self.sql})::{cast_type(column)}", self.inputs, self.links)


def cast_type(column: ColumnInfo) -> str:
    """The type to cast to: with its length, so that `145000` becomes the `145000.00` that the column will hold;
    but without one for varying text and bits, where an explicit cast would cut off what is too long in silence
    and the column itself refuses it."""
    return column.type if column.type in ("character varying", "bit varying") else column.full_type


def forward(rule: Rule, row: Row) -> Way:
    """The target column's value over a source row."""
    match rule:
        case Plain(source=source):
            return _plain(source, row)
        case Coded(source=source, forward=codes, other=other):
            return _coded(source, codes, other, row)
        case Linked(source=source, entity=entity):
            return _linked(source, entity, "source_id", "target_id", row)
        case Shifted(source=source, by=by):
            return _shifted(source, by, row)
        case Expression(sql=sql):
            return _expression(sql, row)
        case Constant(sql=sql):
            return Way(f"({sql})", frozenset())


def sources(rule: Rule) -> frozenset[str]:
    """The source columns that a field is made of (by the contract's text alone)."""
    return forward(rule, Row("r")).inputs


def backward(entity: Entity, column: str, row: Row) -> Way | None:
    """The source column's value over a target row; None when nothing gives it back."""
    if column in entity.reverse:
        return _expression(entity.reverse[column], row)
    field = back_field(entity, column)
    return None if field is None else _back(field, row)


def bound(entity: Entity, column: str) -> list[Field]:
    """The fields that have to be unchanged on the target for `column` to keep its value at the source: what it is
    made into and made from, and the same of every other column that these are made of."""
    columns, targets, size = {column}, set[str](), -1
    while size != len(columns) + len(targets):
        size = len(columns) + len(targets)
        ways_back = (backward(entity, c, Row("r")) for c in columns)
        targets |= set[str]().union(*(w.inputs for w in ways_back if w is not None))
        targets |= {f.target for f in entity.fields if sources(f.rule) & columns}
        columns |= set[str]().union(*(sources(f.rule) for f in entity.fields if f.target in targets))
    return [f for f in entity.fields if f.target in targets]


def back_field(entity: Entity, column: str) -> Field | None:
    """The field that gives `column` back: its key's own field, or else the first that can be turned round."""
    fields = back_fields(entity, column)
    mirrored = dict(entity.key).get(column)
    return next((f for f in fields if f.target == mirrored), fields[0] if fields else None)


def back_fields(entity: Entity, column: str) -> list[Field]:
    """Every field that could give `column` back."""
    return [f for f in entity.fields if _turns(f.rule) and sources(f.rule) == {column}]


def _turns(rule: Rule) -> bool:
    match rule:
        case Constant():
            return False
        case Expression(reverse=reverse):
            return reverse is not None
        case _:
            return True


def _back(field: Field, row: Row) -> Way | None:
    match field.rule:
        case Plain():
            return _plain(field.target, row)
        case Coded() as coded:
            return _coded(field.target, coded.back, coded.reverse_other, row)
        case Linked(entity=entity):
            return _linked(field.target, entity, "target_id", "source_id", row)
        case Shifted(by=by):
            return _shifted(field.target, -by, row)
        case Expression(reverse=str(reverse)):
            return _expression(reverse, row)
        case _:
            return None


def _plain(name: str, row: Row) -> Way:
    return Way(row.column(name), frozenset({name}))


def _expression(sql: str, row: Row) -> Way:
    parsed = expression.parse(sql)
    return Way(parsed.over(row), parsed.columns)


def _coded(name: str, codes: Mapping[str, str], other: str | None, row: Row) -> Way:
    """A code that the list does not know gives NULL, and a NOT NULL column then stops the stream by name."""
    value = f"({row.column(name)})::text"
    arms = " ".join(f"WHEN {literal(code)} THEN {literal(there)}" for code, there in codes.items())
    if other is not None:
        arms += f" ELSE CASE WHEN {value} IS NOT NULL THEN {literal(other)} END"
    return Way(f"CASE {value} {arms} END", frozenset({name}))


def _shifted(name: str, by: int, row: Row) -> Way:
    """As numeric, which has no end: the column's own type then refuses what it cannot hold."""
    return Way(f"({row.column(name)})::numeric {'-' if by < 0 else '+'} {abs(by)}", frozenset({name}))


def _linked(name: str, entity: str, here: str, there: str, row: Row) -> Way:
    found = f"l.entity = {literal(entity)} AND l.{here} = ({row.column(name)})::text"
    sql = f"(SELECT l.{there} FROM alih.link l WHERE {found})"  # noqa: S608  # quoted names and literals only
    return Way(sql, frozenset({name}), frozenset({entity}))
