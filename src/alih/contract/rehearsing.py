"""What has to be asked of the source's rows: whether the contract's maps are total on them, and lead back to them.

Reading SQL cannot tell whether a map loses something; the rows can. Where the contract alone proves it (a column as it
is, an id that is linked or offset, a code list that is one to one), nothing is asked.
"""

import re
from collections.abc import Iterator

from alih.contract import expression, tenancy, types
from alih.contract.compiling import crossed
from alih.contract.expression import Row, quoted
from alih.contract.tenancy import Schemas
from alih.contract.ways import back_field, backward, forward, sources
from alih.model.catalog import Catalog, ColumnInfo, TableInfo
from alih.model.contract import Coded, Constant, Contract, Entity, Expression, Field, Linked, Plain, Scope, Shifted
from alih.model.rehearsal import Question, Rehearsed, Unique

_RANGES = {"smallint": 2**15, "integer": 2**31, "bigint": 2**63}
_TEXTS = frozenset({"text", "character varying"})
_SIZED = re.compile(r"character varying\((\d+)\)")


def rehearse(contract: Contract, source: Catalog, target: Catalog) -> list[Rehearsed]:
    """What to ask of each entity, of a contract that `check` found nothing wrong with against the same catalogs."""
    schemas = Schemas(source, target)
    return [_entity(contract, schemas, entity) for entity in contract.entities]


def _entity(contract: Contract, schemas: Schemas, entity: Entity) -> Rehearsed:
    ours = None if entity.ours is None else expression.parse(entity.ours).over(schemas.target_row(entity, "w"))
    tenant = tenancy.at_source(contract, entity, schemas.source_row(entity, "r"))
    returns = contract.tenant_entity is not None and entity.scope is not Scope.REFERENCE
    return Rehearsed(
        entity=entity.name,
        scope=entity.scope,
        source=entity.source,
        target=entity.target,
        key=tuple(f"r.{quoted(s)}" for s, _ in entity.key),
        write_key=tuple(f"w.{quoted(t)}" for _, t in entity.key),
        tenant=None if tenant is None else tenant.sql,
        ours=ours,
        questions=(
            *(question for field in entity.fields for question in _there(schemas, entity, field)),
            *(_back(schemas, entity) if returns else ()),
        ),
        uniques=tuple(_uniques(schemas, entity)),
        shifted=_shifted(entity),
    )


# --- the way there ------------------------------------------------------------------------------------------


def _there(schemas: Schemas, entity: Entity, field: Field) -> Iterator[Question]:
    column = schemas.target_column(entity, field.target)
    made = crossed(schemas, entity, "r").column(field.target)
    way = forward(field.rule, schemas.source_row(entity, "r")).sql
    match field.rule:
        case Shifted():
            yield _outside(field, column, way)
        case Coded(source=source, other=None):
            yield Question(
                what=f"the map of {field.target} does not list the code",
                sql=f"r.{quoted(source)} IS NOT NULL AND ({way}) IS NULL",
                shows=f"(r.{quoted(source)})::text" if field.data is None else None,
                remedy="list it, or add `else`",
            )
        case Linked(source=source, entity=linked):
            yield Question(
                what=f"{source} refers to a row of {linked} that is not linked",
                sql=f"r.{quoted(source)} IS NOT NULL AND ({way}) IS NULL",
                shows=f"(r.{quoted(source)})::text",
                remedy=f"link it where the `link:` of {linked} reads, on the target",
            )
        case _ if _may_fail(schemas, entity, field, column):
            yield Question(
                what=f"{field.target} can be made",
                sql=f"length({made}::text) < 0",  # never true: it is computed
                remedy="correct its rule",
            )
        case _:
            pass
    if column.not_null:
        yield from _null(schemas, entity, field, way)
    if limit := _SIZED.fullmatch(column.full_type):
        yield from _long(schemas, entity, field, way, int(limit[1]))


def _may_fail(schemas: Schemas, entity: Entity, field: Field, column: ColumnInfo) -> bool:
    if isinstance(field.rule, Plain):
        return schemas.source_column(entity, field.rule.source).full_type != column.full_type
    return isinstance(field.rule, Expression)


def _outside(field: Field, column: ColumnInfo, way: str) -> Question:
    end = _RANGES[column.type]
    return Question(
        what=f"{field.target} would be outside {column.type}",
        sql=f"({way}) NOT BETWEEN {-end} AND {end - 1}",
        first=True,
        remedy="use a smaller offset, or a wider column",
    )


def _null(schemas: Schemas, entity: Entity, field: Field, way: str) -> Iterator[Question]:
    """Codes and links that are not there are asked for by name; here it is NULLs of the source."""
    source = getattr(field.rule, "source", None)
    if source is not None and schemas.source_column(entity, source).not_null:
        return
    if isinstance(field.rule, Constant) and field.rule.sql != "NULL":
        return
    yield Question(
        what=f"{field.target} would be NULL, which the target refuses",
        sql=f"({way}) IS NULL" if source is None else f"r.{quoted(source)} IS NULL",
        remedy="give a value for it in the field's rule, as in coalesce(…)",
    )


def _long(schemas: Schemas, entity: Entity, field: Field, way: str, limit: int) -> Iterator[Question]:
    if isinstance(field.rule, Plain):
        known = _SIZED.fullmatch(schemas.source_column(entity, field.rule.source).full_type)
        if known and int(known[1]) <= limit:
            return
    yield Question(
        what=f"{field.target} would be longer than {limit} characters",
        sql=f"length(({way})::text) > {limit}",
        remedy="widen the target's column, or say under `sql:` how to shorten it",
    )


# --- and back -----------------------------------------------------------------------------------------------


def _back(schemas: Schemas, entity: Entity) -> Iterator[Question]:
    """Every column that comes back, comes back as it was."""
    row = crossed(schemas, entity, "r")
    for column in schemas.source_table(entity).columns:
        if column.name in entity.keep or _exact(schemas, entity, column):
            continue
        way = backward(entity, column.name, row)
        if way is not None and column.name not in entity.not_moved and not column.generated:
            returned = way.cast(types.travelling(column, schemas.source.types)).sql
            yield Question(
                what=f"{column.name} would not come back as it is",
                sql=f"({returned})::text IS DISTINCT FROM (r.{quoted(column.name)})::text",
                back=True,
                remedy=f"correct its way back, or add `keep: {{{column.name}: what is lost}}`",
            )


def _exact(schemas: Schemas, entity: Entity, column: ColumnInfo) -> bool:
    """Whether the contract alone proves that the column comes back. A code that is not listed, or an id that is not
    linked, is asked for on the way there."""
    field = None if column.name in entity.reverse else back_field(entity, column.name)
    match field.rule if field else None:
        case Linked() | Shifted():
            return True
        case Coded(other=other):
            return other is None
        case Plain() if field is not None:
            there = schemas.target_column(entity, field.target)
            return there.full_type == column.full_type or {there.type, column.type} <= _TEXTS
        case _:
            return False


# --- what stands on the target ------------------------------------------------------------------------------


def _uniques(schemas: Schemas, entity: Entity) -> Iterator[Unique]:
    """The target's unique columns, where the contract fills all of them."""
    table, fields = schemas.target_table(entity), {f.target: f for f in entity.fields}
    made = crossed(schemas, entity, "r")
    for columns in dict.fromkeys((table.primary_key, *table.unique_keys)):
        if columns and fields.keys() >= set(columns):
            yield Unique(
                columns=tuple((c, schemas.target_column(entity, c).type, made.column(c)) for c in columns),
                alike=not _one_to_one([fields[c] for c in columns], schemas.source_table(entity)),
            )


def _one_to_one(fields: list[Field], source: TableInfo) -> bool:
    """Whether different rows of the source surely differ in these fields: they hold one of its keys."""
    held = set[str]().union(*(sources(f.rule) for f in fields if isinstance(f.rule, Plain | Linked | Shifted)))
    return any(held.issuperset(key) for key in (source.primary_key, *source.unique_keys) if key)


def _shifted(entity: Entity) -> tuple[str, str] | None:
    column = entity.key[0][1]
    rule = next(f.rule for f in entity.fields if f.target == column)
    own = isinstance(rule, Shifted) and rule.entity == entity.name
    return (column, forward(rule, Row("r")).sql) if own else None
