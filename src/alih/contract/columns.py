"""Checks of an entity's columns: all mapped or left with a reason, all known, all able to travel and to return."""

from collections.abc import Iterator

from alih.contract import expression, losses, personal, types, ways
from alih.contract.expression import quoted
from alih.contract.problem import Problem
from alih.contract.subject import Subject
from alih.contract.tenancy import relation
from alih.model.catalog import Catalog, ColumnInfo, TableInfo
from alih.model.contract import Constant, Expression, Field, Plain


def unknown(subject: Subject) -> Iterator[Problem]:
    """Columns that the contract names and the tables do not have: nothing else is judged before these are right."""
    source, target = subject.source, subject.target
    for field in subject.entity.fields:
        if field.target not in target.names:
            yield _missing(field, "target", target, field.target)
        for name in sorted(ways.sources(field.rule) - source.names):
            yield _missing(field, "source", source, name)
    for column, _ in subject.entity.key:
        if column not in source.names:
            yield subject.problem(f"key.{column}", f"{source.table} has no column {column}", "correct the name")
    for part in ("not_moved", "reverse", "keep"):
        for column in sorted(getattr(subject.entity, part).keys() - source.names):
            yield subject.problem(f"{part}.{column}", f"{source.table} has no column {column}", "correct or remove it")
    for place, sql in subject.target_expressions():
        for column in sorted(expression.parse(sql).columns - target.names):
            yield Problem(place, f"{target.table} has no column {column}", "use columns of the target's table")


def _missing(field: Field, side: str, table: TableInfo, column: str) -> Problem:
    remedy = "correct the name"
    if side == "source" and isinstance(field.rule, Plain) and not column.isidentifier():
        remedy = "write an expression under `sql:`"
    return Problem(field.place, f"{table.table} has no column {column}", remedy)


def problems(subject: Subject) -> Iterator[Problem]:
    """What is wrong with columns that exist."""
    yield from _left_out(subject)
    yield from _unfilled(subject)
    yield from _cannot_travel(subject)
    yield from _cannot_be_written(subject)
    for field in subject.entity.fields:
        yield from _lossy(subject, field)
        yield from _unclassed(subject, field)
        yield from _several(field)
    if subject.returns:
        yield from _no_way_back(subject)


def _left_out(subject: Subject) -> Iterator[Problem]:
    for column in subject.source.columns:
        stays, crosses = column.name in subject.entity.not_moved, column.name in subject.mapped
        if not stays and not crosses:
            yield subject.problem(
                "fields",
                f"the source's column {column.name} is neither mapped nor listed under not_moved",
                f"map it, or add `not_moved: {{{column.name}: reason}}`",
            )
        elif stays and crosses:
            readers = [f.target for f in subject.entity.fields if column.name in ways.sources(f.rule)]
            yield subject.problem(
                f"not_moved.{column.name}", f"is not to move, but {', '.join(readers)} reads it", "keep one of the two"
            )


def _unfilled(subject: Subject) -> Iterator[Problem]:
    for column in subject.target.columns:
        if column.name not in subject.filled and not column.filled:
            yield subject.problem(
                "fields",
                f"the target's column {column.name} is NOT NULL without a default, and nothing fills it",
                f"add a field `{column.name}: …`, or give the column a default",
            )


def _cannot_travel(subject: Subject) -> Iterator[Problem]:
    """Read or written: the value has to be made, in the type that travels, on the other side."""
    crossing = subject.mapped | (subject.returned() if subject.returns else frozenset())
    for table, names, here, there in (
        (subject.source, crossing, subject.here, subject.there),
        (subject.target, subject.read_back(), subject.there, subject.here),
    ):
        for column in table.columns:
            if column.name in names and (obstacle := _obstacle(column, here, there)):
                what, remedy = obstacle
                yield subject.problem("fields", f"{table.table}.{column.name} is {what}", remedy)


def _obstacle(column: ColumnInfo, here: Catalog, there: Catalog) -> types.Obstacle | None:
    if column.generated:
        return "generated, and the log does not carry it", "map the columns that it is made of, in an expression"
    return types.obstacle(column, here, there)


def _cannot_be_written(subject: Subject) -> Iterator[Problem]:
    for column in subject.target.columns:
        if column.generated and (field := subject.field(column.name)):
            yield Problem(
                field.place, f"{subject.target.table} computes {column.name} itself", "leave the field out of `fields`"
            )
    keys = subject.entity.key
    written = [(subject.target, subject.filled - {target for _, target in keys})]
    if subject.returns:
        written.append((subject.source, subject.returned() - dict(keys).keys()))
    for table, names in written:
        for column in table.columns:
            if column.always and column.name in names:
                yield subject.problem(
                    "fields",
                    f"{table.table}.{column.name} is GENERATED ALWAYS AS IDENTITY, which no UPDATE may set",
                    f"ALTER TABLE {relation(table.table)} ALTER COLUMN {quoted(column.name)} SET GENERATED BY DEFAULT",
                )


def _lossy(subject: Subject, field: Field) -> Iterator[Problem]:
    source, target = _ends(subject, field)
    if source is None or target is None:
        return
    yield from _without_label(subject, field, source, target)
    if loss := losses.loss(source, target, subject.here.types, subject.there.types):
        yield Problem(
            field.place,
            f"{source.full_type} to {target.full_type} {loss}",
            f'say how under `sql:`, as in {{sql: "{losses.example(source, target)}", reverse: …}}',
        )


def _without_label(subject: Subject, field: Field, source: ColumnInfo, target: ColumnInfo) -> Iterator[Problem]:
    here, there = subject.here.types, subject.there.types
    lacking = [(target, losses.unknown_labels(source, target, here, there), "map")]
    if subject.returns:
        lacking.append((source, losses.unknown_labels(target, source, there, here), "reverse"))
    for column, labels, key in lacking:
        if labels:
            yield Problem(
                field.place,
                f"the enum {column.type} has no label {', '.join(labels)}",
                f"add the label to the type, or write a `map:` and say under `{key}:` what it becomes",
            )


def _ends(subject: Subject, field: Field) -> tuple[ColumnInfo | None, ColumnInfo | None]:
    if not isinstance(field.rule, Plain):
        return None, None
    return subject.source.column(field.rule.source), subject.target.column(field.target)


def _unclassed(subject: Subject, field: Field) -> Iterator[Problem]:
    if field.data is not None or isinstance(field.rule, Constant):
        return
    found = [personal.personal_class(field.target, subject.target.table.name)]
    found += [personal.personal_class(c, subject.source.table.name) for c in ways.sources(field.rule)]
    if proposed := personal.strongest(found):
        yield Problem(field.place, "looks like personal data and has no class", f"add `data: {proposed}`")


def _several(field: Field) -> Iterator[Problem]:
    if isinstance(field.rule, Expression) and field.rule.reverse and len(ways.sources(field.rule)) != 1:
        yield Problem(
            field.place,
            "gives back one source column but is not made of exactly one",
            "write the way back of each column under the entity's `reverse:`",
        )


def _no_way_back(subject: Subject) -> Iterator[Problem]:
    for column in subject.source.columns:
        name, stays = column.name, column.name in subject.entity.not_moved
        back = [] if stays or name in subject.entity.reverse else ways.back_fields(subject.entity, name)
        if len(back) > 1 and name not in dict(subject.entity.key):
            yield subject.problem(
                "reverse",
                f"{' and '.join(f.target for f in back)} could both give back {name}",
                f"say which: `reverse: {{{name}: {back[0].target}}}`",
            )
        elif not column.filled and (stays or (not back and name not in subject.entity.reverse)):
            yield subject.problem(
                "reverse",
                f"the source's column {name} is NOT NULL without a default and has no way back",
                "give the column a default" if stays else f"add `reverse: {{{name}: SQL over target columns}}`",
            )
