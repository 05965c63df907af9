"""A contract against the two databases it is about: everything that would go wrong later, said now."""

from collections.abc import Iterator

from alih.contract import columns, keys
from alih.contract.problem import Problem
from alih.contract.subject import Subject
from alih.model.catalog import Catalog, TableInfo, TableKind
from alih.model.contract import Contract, Entity, Place, Table


def check(contract: Contract, source: Catalog, target: Catalog) -> list[Problem]:
    """Every problem of the contract against both catalogs, in the order of the file; none means it can be compiled.

    Source tables of the catalog's schemas must be entities or stand under `tables_not_moved`.
    """
    problems = [*_left_out(contract, source)]
    for entity in contract.entities:
        found = [*_table(entity, entity.source, "from", source), *_table(entity, entity.target, "to", target)]
        problems += found or _entity(contract, entity, source, target)
    return sorted(problems, key=lambda p: p.place.line)


def _entity(contract: Contract, entity: Entity, source: Catalog, target: Catalog) -> list[Problem]:
    subject = Subject(
        contract=contract,
        entity=entity,
        source=source.tables[entity.source],
        target=target.tables[entity.target],
        here=source,
        there=target,
    )
    unknown = list(columns.unknown(subject))
    return unknown or [*columns.problems(subject), *keys.problems(subject)]


def _left_out(contract: Contract, source: Catalog) -> Iterator[Problem]:
    moved = {str(e.source) for e in contract.entities}
    for table, info in source.tables.items():
        if (
            info.kind in (TableKind.TABLE, TableKind.PARTITIONED)
            and not info.partition
            and str(table) not in moved | contract.tables_not_moved.keys()
        ):
            yield Problem(
                _at(contract, "tables_not_moved"),
                f"the source's table {table} is neither an entity nor listed here",
                f"make it an entity, or add `{_short(table)}: reason`",
            )
    names = {str(t) for t in source.tables}
    for name in contract.tables_not_moved:
        if name in moved:
            yield Problem(_at(contract, f"tables_not_moved.{name}"), "is an entity as well", "keep one of the two")
        elif name not in names:
            yield Problem(
                _at(contract, f"tables_not_moved.{name}"), "the source has no such table", "correct or remove it"
            )


def _at(contract: Contract, path: str) -> Place:
    return Place(file=contract.file, line=1, path=path)


def _short(table: Table) -> str:
    return table.name if table.schema == "public" else str(table)


def _table(entity: Entity, table: Table, key: str, catalog: Catalog) -> Iterator[Problem]:
    info = catalog.table(table)
    place = Place(file=entity.place.file, line=entity.place.line, path=f"{entity.place.path}.{key}")
    side = "source" if key == "from" else "target"
    if info is None:
        yield Problem(
            place,
            f"the {side} has no table {table}",
            "correct the name, or schema.name; `--create-target` makes identical tables",
        )
    elif unfit := _unfit(info):
        what, remedy = unfit
        yield Problem(place, f"{table} is {what}", remedy)


_NOT_OFFERED = "name a plain table; this kind is not offered yet"


def _unfit(info: TableInfo) -> tuple[str, str] | None:
    if info.partition:
        return "a partition", "name the partitioned table at the top: its rows cross as one table's"
    if info.inherits:
        return "part of an inheritance tree", _NOT_OFFERED
    match info.kind:
        case TableKind.TABLE | TableKind.PARTITIONED:
            return None
        case TableKind.VIEW | TableKind.MATERIALIZED_VIEW:
            return "a view", _NOT_OFFERED
        case TableKind.FOREIGN:
            return "a foreign table", _NOT_OFFERED
