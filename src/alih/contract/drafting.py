"""A first contract from two catalogs. Equal tables come out ready to run; whatever was guessed says `# decide:`."""

import json
import re
from collections.abc import Iterator

from alih.contract import losses, personal, types
from alih.model.catalog import Catalog, ColumnInfo, TableInfo, TableKind

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
_TAKEN = frozenset({"true", "false", "null"})

_HEAD = """\
# What crosses from the source to the target, and why. A draft: look at every line that says `decide`.
migration: {name}
source: {{kind: postgres, dsn: $ALIH_SOURCE}}
target: {{kind: postgres, dsn: $ALIH_TARGET}}
"""
_NO_KEY = "no primary key: to move it, add one at the source and the target, then draft again"
_KINDS = {
    TableKind.FOREIGN: "its rows are in another server",
}


Between = tuple[Catalog, Catalog]
"""The source's and the target's."""


def draft(name: str, source: Catalog, target: Catalog) -> str:
    """The text of an `alih.yaml` named `name`. A source table whose twin on the target has the same name and key
    becomes an entity (shared: no tenant is guessed); every other one stays behind with the reason."""
    entities: list[str] = []
    left: list[str] = []
    for info in source.tables.values():
        if info.kind in (TableKind.VIEW, TableKind.MATERIALIZED_VIEW) or info.partition:
            continue
        twin = target.table(info.table)
        if reason := _obstacle(info, twin):
            left.append(f"  {_word(_name(info))}: {_word(reason)}{'' if reason == _NO_KEY else '  # decide:'}")
        elif twin is not None:
            entities += _entity(info, twin, (source, target))
    text = _HEAD.format(name=name) + "\n".join(["entities:" if entities else "entities: {}  # decide:", *entities])
    return text + "\n" + ("\n".join(["tables_not_moved:", *left]) + "\n" if left else "")


def _obstacle(info: TableInfo, twin: TableInfo | None) -> str | None:
    if info.kind in _KINDS:
        return _KINDS[info.kind]
    if info.inherits:
        return "inheritance is not offered yet"
    if not info.keys:
        return _NO_KEY
    if twin is None or twin.kind not in (TableKind.TABLE, TableKind.PARTITIONED):
        return "the target has no table of this name"
    return None if _key(info, twin) else "the two tables have no key in common"


def _key(info: TableInfo, twin: TableInfo) -> tuple[str, ...] | None:
    """A key of both, the one that the log names deleted rows by if possible."""
    shared = [k for k in info.keys if any(set(k) == set(other) for other in twin.keys)]
    return next((k for k in shared if set(k) == set(info.identity_columns)), shared[0] if shared else None)


def _entity(info: TableInfo, twin: TableInfo, between: Between) -> Iterator[str]:
    name = _word(_name(info))
    yield f"  {_entity_name(info)}:"
    yield f"    from: {name}"
    yield f"    to: {name}"
    yield f"    key: {{{', '.join(f'{_word(c)}: {_word(c)}' for c in _key(info, twin) or ())}}}"
    yield "    scope: shared  # decide: or `tenant: column`, {via: entity, column: column}, `scope: reference`"
    yield "    purpose: the same table on both sides  # decide:"
    yield "    fields:"
    yield from _fields(info, twin, between)
    yield from _not_moved(info, twin)


def _fields(info: TableInfo, twin: TableInfo, between: Between) -> Iterator[str]:
    for column in twin.columns:
        twin_column = info.column(column.name)
        if twin_column is not None and _crosses(twin_column, column):
            yield _field(twin_column, column, info.table.name, between)
        elif not column.filled:
            yield f"      # decide: {_word(column.name)} is NOT NULL on the target and the source has nothing for it"


def _field(source: ColumnInfo, target: ColumnInfo, table: str, between: Between) -> str:
    name = _word(target.name)
    here, there = between
    loss = losses.loss(source, target, here.types, there.types)
    obstacles = [o for o in (types.obstacle(source, here, there), types.obstacle(target, there, here)) if o]
    doubts = ([loss] if loss else []) + [what for what, _ in obstacles]
    note = f"  # decide: {source.full_type} to {target.full_type}: {', '.join(doubts)}" if doubts else ""
    if proposed := personal.personal_class(target.name, table):
        return f"      {name}: {{from: {name}, data: {proposed}}}{note or '  # decide: classed by its name'}"
    return f"      {name}: {name}{note}"


def _not_moved(info: TableInfo, twin: TableInfo) -> Iterator[str]:
    left = [c for c in info.columns if not _crosses(c, twin.column(c.name))]
    if left:
        yield "    not_moved:"
    for column in left:
        reason = "made from other columns" if column.generated else "the target has no column for it"
        yield f"      {_word(column.name)}: {reason}{'' if column.generated else '  # decide:'}"


def _crosses(source: ColumnInfo, target: ColumnInfo | None) -> bool:
    return target is not None and not source.generated and not target.generated


def _name(info: TableInfo) -> str:
    return info.table.name if info.table.schema == "public" else str(info.table)


def _entity_name(info: TableInfo) -> str:
    name = re.sub(r"\W", "_", _name(info))
    return name if name.isidentifier() else f"table_{name}"


def _word(text: str) -> str:
    """`text` as a YAML scalar that is read as text."""
    plain = _WORD.fullmatch(text) and text not in _TAKEN
    return text if plain else json.dumps(text, ensure_ascii=False)
