"""Pairs of types between which a plain cast loses something, or guesses, in silence or in the middle of a stream."""

import re

from alih.contract import types
from alih.contract.types import Types
from alih.model.catalog import ColumnInfo

_FLOATS = {"real": 24, "double precision": 53}  # bits of their whole numbers
_BITS = {"smallint": 15, "integer": 31, "bigint": 63}
_ZONED, _LOCAL = "timestamp with time zone", "timestamp without time zone"
_TIME_ZONED, _TIME_LOCAL = "time with time zone", "time without time zone"
_TIMED = frozenset({_ZONED, _LOCAL, _TIME_ZONED, _TIME_LOCAL, "interval"})
_TIME_PLACES = 6
_MAX_DIGITS = 131_072
_MAX_SCALE = 16_383
_LIMIT = re.compile(r"\((\d+)\)")
_LIMITS = re.compile(r"\((\d+)(?:,(-?\d+))?\)")

_DROPPED = {
    (_ZONED, "date"): "loses the time of day",
    (_LOCAL, "date"): "loses the time of day",
    (_ZONED, _LOCAL): "depends on the session's time zone",
    (_LOCAL, _ZONED): "depends on the session's time zone",
    ("date", _ZONED): "depends on the session's time zone",
    (_TIME_LOCAL, _TIME_ZONED): "depends on the session's time zone",
    (_TIME_ZONED, _TIME_LOCAL): "loses the time zone",
    (_ZONED, _TIME_LOCAL): "loses the date",
    (_ZONED, _TIME_ZONED): "loses the date",
    (_LOCAL, _TIME_LOCAL): "loses the date",
    ("interval", _TIME_LOCAL): "loses the days",
    ("json", "jsonb"): "forgets spaces, the order of keys and repeated keys",
    ("inet", "cidr"): "clears the bits of the host",
}


def loss(source: ColumnInfo, target: ColumnInfo, here: Types, there: Types) -> str | None:
    """What a plain cast from `source` to `target` would lose or guess in silence, or cannot hold; `here` and `there`
    are the two databases' types."""
    source, target = types.travelling(source, here), types.travelling(target, there)
    return _DROPPED.get((source.type, target.type)) or _rounding(source, target) or _cutting(source, target)


def unknown_labels(source: ColumnInfo, target: ColumnInfo, here: Types, there: Types) -> list[str]:
    """The source's labels that the target's enum does not have; none where the two are not both enums."""
    own, other = types.enum(source, here), types.enum(target, there)
    if own is None or other is None:
        return []
    known = there[other.removesuffix("[]")].made_of
    return [label for label in here[own.removesuffix("[]")].made_of if label not in known]


def _rounding(source: ColumnInfo, target: ColumnInfo) -> str | None:
    rounds = _numbers(source, target)
    if {source.type, target.type} <= _TIMED and _places(target) < _places(source):
        rounds = True
    return "rounds" if rounds else None


def _numbers(source: ColumnInfo, target: ColumnInfo) -> bool:
    """Whether a number loses digits. The server turns a float into a numeric of 15 (real: 6) digits."""
    match source.type, target.type:
        case "numeric" | "real" | "double precision", "smallint" | "integer" | "bigint":
            return _scale(source) > 0
        case "numeric", "numeric":
            return _scale(target) < _scale(source)
        case ("real" | "double precision", "numeric") | ("double precision", "real"):
            return True
        case "numeric", "real" | "double precision":
            return True
        case ((("smallint" | "integer" | "bigint") as whole), (("real" | "double precision") as broken)):
            return _BITS[whole] > _FLOATS[broken]
        case _:
            return False


def _cutting(source: ColumnInfo, target: ColumnInfo) -> str | None:
    if target.type == "bpchar" and _length(source) > _length(target):
        return "cuts off what is too long"
    if target.type == "bit" and _length(source) != _length(target):
        return "cuts off or fills up bits"
    if target.type in ("character varying", "bit varying") and _length(target) < _length(source) < float("inf"):
        return "cannot hold what is longer"
    if source.type == target.type == "numeric" and _whole_digits(target) < _whole_digits(source) < _MAX_DIGITS:
        return "cannot hold as many digits"
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
    limits = _LIMITS.search(column.full_type)
    return int(limits[2] or 0) if limits else _MAX_SCALE


def _whole_digits(column: ColumnInfo) -> int:
    """Digits before the point that the column can hold."""
    limits = _LIMITS.search(column.full_type)
    return int(limits[1]) - int(limits[2] or 0) if limits else _MAX_DIGITS


def _places(column: ColumnInfo) -> int:
    """Digits of a second that the column can hold."""
    limit = _LIMIT.search(column.full_type)
    return int(limit[1]) if limit else _TIME_PLACES


def _length(column: ColumnInfo) -> float:
    """Characters, or bits, that the column can hold."""
    limit = _LIMIT.search(column.full_type)
    return int(limit[1]) if limit else float("inf")
