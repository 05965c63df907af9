"""Column types: which cannot travel yet, and which pairs lose something when a value is simply cast."""

import re

from alih.model.catalog import ColumnInfo, TypeKind

_NAMES = {
    TypeKind.ENUM: "of an enum type",
    TypeKind.DOMAIN: "of a domain type",
    TypeKind.COMPOSITE: "of a composite type",
    TypeKind.PSEUDO: "of a pseudo-type",
}
_WHOLE = frozenset({"smallint", "integer", "bigint"})
_BROKEN = frozenset({"numeric", "real", "double precision"})
_FLOATS = frozenset({"real", "double precision"})
_ZONED, _LOCAL = "timestamp with time zone", "timestamp without time zone"
_MAX_SCALE = 16383


def obstacle(column: ColumnInfo) -> str | None:
    """Why a column cannot cross as binary between two databases yet: its type's number differs on each."""
    if column.generated:
        return "generated, and the log does not carry it"
    if name := _NAMES.get(column.kind):
        return f"{'an array ' if column.array else ''}{name} ({column.type})"
    if "." in column.type:
        return f"of a type that an extension or a user made ({column.type})"
    return None


def loss(source: ColumnInfo, target: ColumnInfo) -> str | None:
    """What a plain cast from `source` to `target` would lose or guess in silence."""
    pair = source.type, target.type
    if pair in ((_ZONED, _LOCAL), (_LOCAL, _ZONED)):
        return "depends on the session's time zone"
    if source.type in (_ZONED, _LOCAL) and target.type == "date":
        return "loses the time of day"
    if source.type in _BROKEN and target.type in _WHOLE and _scale(source) > 0:
        return "rounds"
    if target.type == "numeric" and source.type in _BROKEN and _scale(target) < _scale(source):
        return "rounds"
    if (target.type == "real" and source.type in ("double precision", "numeric")) or pair == (
        "numeric",
        "double precision",
    ):
        return "rounds"
    if target.type == "bpchar" and _length(source) > _length(target):
        return "cuts off what is too long"
    return None


def example(source: ColumnInfo, target: ColumnInfo) -> str:
    """An expression that says how."""
    if {source.type, target.type} == {_ZONED, _LOCAL}:
        return f"{source.name} AT TIME ZONE 'Asia/Jakarta'"
    return f"{source.name}::{target.full_type}"


def _scale(column: ColumnInfo) -> int:
    """Digits after the point that the column can hold."""
    if column.type in _FLOATS:
        return _MAX_SCALE
    limits = re.search(r"\((\d+),(-?\d+)\)", column.full_type)
    return int(limits[2]) if limits else _MAX_SCALE


def _length(column: ColumnInfo) -> float:
    """Characters that the column can hold."""
    limit = re.search(r"\((\d+)\)", column.full_type)
    return int(limit[1]) if limit else float("inf")
