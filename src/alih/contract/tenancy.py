"""Whose row it is: SQL that gives the tenant's id, as the source spells it, for a row on either side."""

from dataclasses import dataclass

from alih.contract import expression, types
from alih.contract.expression import Row, quoted
from alih.contract.ways import Way, backward
from alih.model.catalog import Catalog, ColumnInfo, TableInfo
from alih.model.contract import Contract, Entity, Own, Table, Via
from alih.model.projection import ParentRow


@dataclass(frozen=True, slots=True)
class Schemas:
    """Both databases; every table and column that a checked contract names is in them."""

    source: Catalog
    target: Catalog

    def source_table(self, entity: Entity) -> TableInfo:
        return self.source.tables[entity.source]

    def target_table(self, entity: Entity) -> TableInfo:
        return self.target.tables[entity.target]

    def source_row(self, entity: Entity, alias: str) -> Row:
        return _row(self.source, self.source_table(entity), alias)

    def target_row(self, entity: Entity, alias: str) -> Row:
        return _row(self.target, self.target_table(entity), alias)

    def source_column(self, entity: Entity, name: str) -> ColumnInfo:
        return next(c for c in self.source_table(entity).columns if c.name == name)

    def target_column(self, entity: Entity, name: str) -> ColumnInfo:
        return next(c for c in self.target_table(entity).columns if c.name == name)


def _row(database: Catalog, table: TableInfo, alias: str) -> Row:
    """On the other side a staged row has the types that travel; the same SQL runs on both."""
    travelling = {c.name: types.travelling(c, database.types).type for c in table.columns}
    return Row(alias, {c.name: travelling[c.name] for c in table.columns if travelling[c.name] != c.type})


def at_source(contract: Contract, entity: Entity, row: Row) -> Way | None:
    """The tenant of the source row; None for shared and reference rows."""
    match entity.tenant:
        case None:
            return None
        case Own(column):
            return Way(f"({row.column(column)})::text", frozenset({column}))
        case Via(entity=name, column=column):
            parent = contract.entity(name)
            inner = at_source(contract, parent, above(row))
            return _through_parent(inner, parent.source, parent.key[0][0], column, row)


def at_target(contract: Contract, schemas: Schemas, entity: Entity, row: Row) -> Way | None:
    """The tenant of the target row; NULL there for a row, or the child of a row, that is not ours."""
    match entity.tenant:
        case None:
            return None
        case Own(column):
            return _only_ours(entity, _own(schemas, entity, column, row), row)
        case Via(entity=name, column=column):
            parent = contract.entity(name)
            inner = at_target(contract, schemas, parent, above(row))
            way = _through_parent(inner, parent.target, parent.key[0][1], carrier(entity, column), row)
            return _only_ours(entity, way, row)


def _own(schemas: Schemas, entity: Entity, column: str, row: Row) -> Way:
    """Cast to the source column's type first: the id has to read as the source spells it."""
    way = backward(entity, column, row)
    if way is None:
        raise ValueError(f"{entity.place}: the tenant column {column} has no way back")
    cast = way.cast(types.travelling(schemas.source_column(entity, column), schemas.source.types))
    return Way(f"({cast.sql})::text", cast.inputs, cast.links)


def _only_ours(entity: Entity, way: Way, row: Row) -> Way:
    if entity.ours is None:
        return way
    ours = expression.parse(entity.ours)
    return Way(f"(CASE WHEN {ours.over(row)} THEN {way.sql} END)", way.inputs | ours.columns, way.links)


def _through_parent(inner: Way | None, table: Table, key: str, column: str, row: Row) -> Way:
    if inner is None:
        raise ValueError(f"{table} belongs to no tenant")
    parent = above(row)
    found = f"{parent.column(key)} = {row.column(column)}"
    sql = f"(SELECT {inner.sql} FROM {relation(table)} {parent.alias} WHERE {found})"  # noqa: S608  # quoted names only
    return Way(sql, frozenset({column}), inner.links)


def above(row: Row) -> Row:
    """The alias of the parent of the row: r, p1, p2, …; w, p1, p2, …"""
    return Row(f"p{int(row.alias[1:]) + 1}" if row.alias.startswith("p") else "p1")


def relation(table: Table) -> str:
    return f"{quoted(table.schema)}.{quoted(table.name)}"


def carrier(entity: Entity, column: str) -> str:
    """The target column in which the id of source column `column` crosses."""
    for field in entity.fields:
        if getattr(field.rule, "source", None) == column:
            return field.target
    raise ValueError(f"{entity.place}: no field carries {column}")


def parent_row(contract: Contract, entity: Entity, *, forward: bool) -> ParentRow | None:
    """How a row of either side finds its parent."""
    if not isinstance(entity.tenant, Via):
        return None
    source_key, target_key = contract.entity(entity.tenant.entity).key[0]
    here, there = (entity.tenant.column, source_key), (carrier(entity, entity.tenant.column), target_key)
    read, write = (here, there) if forward else (there, here)
    return ParentRow(entity.tenant.entity, read[0], read[1], write[0], write[1])
