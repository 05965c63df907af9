"""A checked contract to projections: complete, qualified, cast SQL for both directions."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from alih.contract import expression, tenancy, types
from alih.contract.expression import Row, quoted
from alih.contract.tenancy import Schemas
from alih.contract.ways import Way, backward, bound, forward
from alih.model.catalog import Catalog, ColumnInfo, TableInfo
from alih.model.contract import Contract, Entity, Scope, Via
from alih.model.projection import Assignment, Direction, Projection, ReadColumn

_LITERAL = re.compile(r"('(?:[^']|'')*'|-?\d+(?:\.\d+)?|true|false)(::[\w \"().,]+)?")  # as pg_get_expr prints one


@dataclass(frozen=True, slots=True)
class Projections:
    """Entities in both directions, parents before children; reference entities only forward, for they never flip."""

    forward: tuple[Projection, ...]
    reverse: tuple[Projection, ...]


def compile(contract: Contract, source: Catalog, target: Catalog) -> Projections:
    """The projections of a contract that `check` found nothing wrong with against the same catalogs."""
    schemas = Schemas(source, target)
    ordered = list(_parents_first(contract, schemas))
    return Projections(
        forward=tuple(_forward(contract, schemas, entity) for entity in ordered),
        reverse=tuple(_reverse(contract, schemas, e) for e in ordered if e.scope is not Scope.REFERENCE),
    )


def _forward(contract: Contract, schemas: Schemas, entity: Entity) -> Projection:
    read = schemas.source_row(entity, "r")
    ways = {f.target: forward(f.rule, read) for f in entity.fields}
    tenant_read = tenancy.at_source(contract, entity, read)
    tenant_write = tenancy.at_target(contract, schemas, entity, schemas.target_row(entity, "w"))
    key = [source for source, _ in entity.key]
    return Projection(
        entity=entity.name,
        direction=Direction.FORWARD,
        scope=entity.scope,
        reads=entity.source,
        writes=entity.target,
        read_columns=_read(schemas.source_table(entity), schemas.source, key, [*ways.values(), tenant_read]),
        assignments=_assignments(ways, [t for _, t in entity.key], schemas.target_table(entity), schemas.target),
        reads_ours=None,
        writes_ours=_ours(entity, schemas.target_row(entity, "w")),
        tenant_read=_sql(tenant_read),
        tenant_write=_sql(tenant_write),
        parent=tenancy.parent_row(contract, entity, forward=True),
        links=_links([*ways.values(), tenant_read, tenant_write]),
    )


def _reverse(contract: Contract, schemas: Schemas, entity: Entity) -> Projection:
    read = schemas.target_row(entity, "r")
    ways = dict(_ways_back(entity, schemas.source_table(entity), read))
    tenant_read = tenancy.at_target(contract, schemas, entity, read)
    tenant_write = tenancy.at_source(contract, entity, schemas.source_row(entity, "w"))
    key = [target for _, target in entity.key]
    ours = None if entity.ours is None else Way("", expression.parse(entity.ours).columns)
    return Projection(
        entity=entity.name,
        direction=Direction.REVERSE,
        scope=entity.scope,
        reads=entity.target,
        writes=entity.source,
        read_columns=_read(schemas.target_table(entity), schemas.target, key, [*ways.values(), tenant_read, ours]),
        assignments=tuple(
            _returning(schemas, entity, a)
            for a in _assignments(ways, [s for s, _ in entity.key], schemas.source_table(entity), schemas.source)
        ),
        reads_ours=_ours(entity, read),
        writes_ours=None,
        tenant_read=_sql(tenant_read),
        tenant_write=_sql(tenant_write),
        parent=tenancy.parent_row(contract, entity, forward=False),
        links=_links([*ways.values(), tenant_read, tenant_write]),
    )


def _ways_back(entity: Entity, table: TableInfo, row: Row) -> Iterator[tuple[str, Way]]:
    for column in table.columns:
        way = None if column.name in entity.not_moved or column.generated else backward(entity, column.name, row)
        if way is not None:
            yield column.name, way


def _returning(schemas: Schemas, entity: Entity, assignment: Assignment) -> Assignment:
    """The way back of one source column, with what becomes of a value that crosses and returns unchanged."""
    column = schemas.source_column(entity, assignment.column)
    way = backward(entity, column.name, crossed(schemas, entity, "w"))
    returned = None if way is None else way.cast(types.travelling(column, schemas.source.types)).sql
    if column.name not in entity.keep:
        return replace(assignment, returned=returned)
    made, read = crossed(schemas, entity, "w"), schemas.target_row(entity, "r")
    fields = [f.target for f in bound(entity, column.name)]
    same = " AND ".join(f"{made.column(f)}::text IS NOT DISTINCT FROM ({read.column(f)})::text" for f in fields)
    return replace(
        assignment,
        update=f"CASE WHEN {same} THEN w.{quoted(column.name)} ELSE {assignment.sql} END",
        inputs=assignment.inputs.union(fields),
        returned=returned,
    )


def crossed(schemas: Schemas, entity: Entity, alias: str) -> Row:
    """The target's row as the source row `alias` makes it: by fields, and by defaults that are literals."""
    row = schemas.source_row(entity, alias)
    ways = {f.target: forward(f.rule, row) for f in entity.fields}
    made = {
        c.name: (ways[c.name] if c.name in ways else _default(c)).cast(types.travelling(c, schemas.target.types))
        for c in schemas.target_table(entity).columns
    }
    return Row(alias, made={name: f"({way.sql})" for name, way in made.items()})


def _default(column: ColumnInfo) -> Way:
    literal = column.default is not None and _LITERAL.fullmatch(column.default)
    return Way(str(column.default) if literal else "NULL", frozenset())


def _read(table: TableInfo, database: Catalog, key: list[str], ways: list[Way | None]) -> tuple[ReadColumn, ...]:
    needed = set(key).union(*(w.inputs for w in ways if w is not None))
    return tuple(
        ReadColumn(c.name, c.type, c.name in key, types.travelling(c, database.types).type)
        for c in table.columns
        if c.name in needed
    )


def _assignments(
    ways: Mapping[str, Way], key: list[str], table: TableInfo, database: Catalog
) -> tuple[Assignment, ...]:
    """Key columns first, in key order; then the others in table order."""
    others = [c.name for c in table.columns if c.name in ways and c.name not in key]
    columns = {c.name: c for c in table.columns}
    return tuple(_assignment(columns[name], ways[name], name in key, database) for name in key + others)


def _assignment(column: ColumnInfo, way: Way, key: bool, database: Catalog) -> Assignment:
    """Text becomes an enum by a cast; a column of a domain takes the base type, and checks it, by itself."""
    sent = way.cast(types.travelling(column, database.types)).sql
    enum = types.enum(column, database.types)
    return Assignment(column.name, column.full_type, f"({sent})::{enum}" if enum else sent, way.inputs, key, sent)


def _ours(entity: Entity, row: Row) -> str | None:
    return None if entity.ours is None else expression.parse(entity.ours).over(row)


def _sql(way: Way | None) -> str | None:
    return None if way is None else way.sql


def _links(ways: list[Way | None]) -> frozenset[str]:
    return frozenset[str]().union(*(w.links for w in ways if w is not None))


def _parents_first(contract: Contract, schemas: Schemas) -> Iterator[Entity]:
    """Depth first over `via` and the foreign keys of both sides; a circle of foreign keys is cut where it is met."""
    done: set[str] = set()

    def visit(entity: Entity) -> Iterator[Entity]:
        if entity.name in done:
            return
        done.add(entity.name)
        for parent in _parents(contract, schemas, entity):
            yield from visit(parent)
        yield entity

    for entity in contract.entities:
        yield from visit(entity)


def _parents(contract: Contract, schemas: Schemas, entity: Entity) -> Iterator[Entity]:
    if isinstance(entity.tenant, Via):
        yield contract.entity(entity.tenant.entity)
    sources = {k.references for k in schemas.source_table(entity).foreign_keys}
    targets = {k.references for k in schemas.target_table(entity).foreign_keys}
    yield from (e for e in contract.entities if e.source in sources or e.target in targets)
