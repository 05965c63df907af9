"""Checks of an entity's key, replica identity and tenant: how a row is found again, and whose it is."""

from collections.abc import Iterator

from alih.contract import ways
from alih.contract.expression import Row, quoted
from alih.contract.problem import Problem
from alih.contract.subject import Subject
from alih.contract.tenancy import relation
from alih.model.catalog import ForeignKey, ReplicaIdentity, TableInfo
from alih.model.contract import Entity, Field, Linked, Own, Plain, Rule, Shifted, Via


def problems(subject: Subject) -> Iterator[Problem]:
    """What is wrong with key, replica identity and tenant of an entity whose columns exist."""
    entity = subject.entity
    yield from _unique(subject, subject.source, [s for s, _ in entity.key], "source")
    yield from _unique(subject, subject.target, [t for _, t in entity.key], "target")
    yield from _identity(subject, subject.source, [s for s, _ in entity.key])
    if subject.returns:
        yield from _identity(subject, subject.target, [t for _, t in entity.key])
    for source, target in entity.key:
        yield from _key_field(subject, source, target)
    yield from _references(subject)
    yield from _kept(subject)
    match entity.tenant:
        case Own(column):
            yield from _tenant_column(subject, column)
        case Via():
            yield from _via(subject, entity.tenant)
        case None:
            pass


def _unique(subject: Subject, table: TableInfo, key: list[str], side: str) -> Iterator[Problem]:
    if not table.keys:
        yield subject.problem(
            "key",
            f"the {side}'s table {table.table} has no key",
            f"ALTER TABLE {relation(table.table)} ADD PRIMARY KEY (…)",
        )
    elif not any(set(k) == set(key) for k in table.keys):
        known = " or ".join(f"({', '.join(k)})" for k in table.keys)
        yield subject.problem(
            "key", f"({', '.join(key)}) is no key of the {side}'s table {table.table}", f"its keys are {known}"
        )


def _identity(subject: Subject, table: TableInfo, key: list[str]) -> Iterator[Problem]:
    change = f"ALTER TABLE {relation(table.table)} REPLICA IDENTITY"
    if table.odd_partitions:
        yield subject.problem(
            "key",
            f"partitions of {table.table} are foreign tables, or have another REPLICA IDENTITY than it:"
            f" {', '.join(table.odd_partitions)}",
            f"give each partition the identity of {table.table}, and bring foreign rows into it",
        )
    match table.replica_identity:
        case ReplicaIdentity.NOTHING:
            yield subject.problem(
                "key",
                f"{table.table} has REPLICA IDENTITY NOTHING: its deletes cannot be followed",
                f"{change} DEFAULT",
            )
        case ReplicaIdentity.FULL:
            yield subject.problem(
                "key",
                f"{table.table} has REPLICA IDENTITY FULL: beside a list of columns the shop's own updates would fail",
                f"{change} DEFAULT",
            )
        case _:
            if set(table.identity_columns) != set(key):
                yield subject.problem(
                    "key",
                    f"the log of {table.table} names deleted rows by ({', '.join(table.identity_columns)})",
                    f"use that key, or {change} USING INDEX … on ({', '.join(key)})",
                )


def _key_field(subject: Subject, source: str, target: str) -> Iterator[Problem]:
    field = subject.field(target)
    path = f"key.{source}"
    if field is None:
        yield subject.problem(
            path, f"no field fills the target's key column {target}", f"add `{target}: {source}` to fields"
        )
    elif ways.sources(field.rule) != {source}:
        yield Problem(
            field.place,
            f"the key column {target} is not made of {source} alone",
            f"write `{target}: {source}`, or correct `key`",
        )
    elif subject.returns and ways.backward(subject.entity, source, Row("r")) is None:
        yield Problem(field.place, f"nothing gives the key column {source} back", "add `reverse:` to the field")


def _tenant_column(subject: Subject, column: str) -> Iterator[Problem]:
    info = subject.source.column(column)
    if info is None:
        yield subject.problem(
            "tenant",
            f"{subject.source.table} has no column {column}",
            "name the column with the tenant's id, or {via: …}",
        )
        return
    yield from _nullable(subject, column)
    if column in subject.entity.not_moved or ways.backward(subject.entity, column, Row("r")) is None:
        yield subject.problem(
            "tenant", f"the target's rows do not tell {column}", f"map {column}, so that it can be turned back"
        )


def _nullable(subject: Subject, column: str) -> Iterator[Problem]:
    if any(c.name == column and not c.not_null for c in subject.source.columns):
        yield subject.problem(
            "tenant",
            f"{column} may be NULL: such a row would belong to nobody",
            f"ALTER TABLE {relation(subject.source.table)} ALTER COLUMN {quoted(column)} SET NOT NULL",
        )


def _via(subject: Subject, via: Via) -> Iterator[Problem]:
    parent = subject.contract.entity(via.entity)
    if via.column not in subject.source.names:
        yield subject.problem("tenant.column", f"{subject.source.table} has no column {via.column}", "correct the name")
        return
    yield from _nullable(subject, via.column)
    source_key, target_key = parent.key[0]
    if not any(
        k.columns == (via.column,) and k.references == parent.source and k.referenced == (source_key,)
        for k in subject.source.foreign_keys
    ):
        yield subject.problem(
            "tenant.column",
            f"{via.column} is no foreign key to {parent.source} ({source_key})",
            f"ALTER TABLE {relation(subject.source.table)} ADD FOREIGN KEY ({quoted(via.column)})"
            f" REFERENCES {relation(parent.source)}",
        )
    if not any(_carries(f, via.column, parent, target_key) for f in subject.entity.fields):
        yield subject.problem(
            "tenant.column",
            f"no field carries {via.column} the way {via.entity}.{target_key} is made",
            "map it as the parent's key is mapped",
        )


def _carries(field: Field, column: str, parent: Entity, key: str) -> bool:
    """Whether `field` puts into the child's row what the parent's key column holds on the target."""
    above = next((f.rule for f in parent.fields if f.target == key), None)
    match field.rule, above:
        case Plain(source=source), Plain():
            return source == column
        case Linked(source=source, entity=entity), Linked(entity=other):
            return source == column and entity == other
        case Shifted(source=source, by=by), Shifted(by=other_by):
            return source == column and by == other_by
        case _:
            return False


def _references(subject: Subject) -> Iterator[Problem]:
    """Ids that become others at home have to become the same wherever another table holds them."""
    made = {k.columns[0]: _made(subject, k) for k in subject.source.foreign_keys if len(k.columns) == 1}
    for field in subject.entity.fields:
        match field.rule, made.get(getattr(field.rule, "source", "")):
            case Plain(source=source), (Linked() | Shifted()) as rule:
                form = "link" if isinstance(rule, Linked) else "offset"
                yield Problem(
                    field.place,
                    f"holds ids of {rule.entity}, which are others on the target",
                    f"write {{{form}: {rule.entity}, from: {source}}}",
                )
            case _:
                pass
        if isinstance(field.rule, Shifted):
            yield from _no_integer(subject, field, field.rule)


def _made(subject: Subject, foreign_key: ForeignKey) -> Rule | None:
    """How the column that a foreign key refers to crosses, where it is an entity's key."""
    for entity in subject.contract.entities:
        if entity.source == foreign_key.references and [s for s, _ in entity.key] == list(foreign_key.referenced):
            return next((f.rule for f in entity.fields if f.target == entity.key[0][1]), None)
    return None


def _no_integer(subject: Subject, field: Field, rule: Shifted) -> Iterator[Problem]:
    for column in (subject.source.column(rule.source), subject.target.column(field.target)):
        if column is not None and column.type not in ("smallint", "integer", "bigint"):
            yield Problem(
                field.place, f"{column.name} is {column.full_type}", "an offset is for whole numbers: use `link`"
            )


def _kept(subject: Subject) -> Iterator[Problem]:
    for column in subject.entity.keep:
        if column in dict(subject.entity.key) or subject.entity.tenant == Own(column):
            yield subject.problem(
                f"keep.{column}",
                "tells which row it is, or whose",
                "map it so that it comes back whole, and leave it out",
            )
        elif ways.backward(subject.entity, column, Row("r")) is None:
            yield subject.problem(
                f"keep.{column}",
                "nothing gives it back, so it keeps its value in any case",
                f"leave it out, or add `reverse: {{{column}: SQL over target columns}}` for rows that are new",
            )
