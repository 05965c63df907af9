"""Column types: as what a value travels, and which cannot travel between two databases.

A type that is not the server's own has another number on every server, and may be missing on one of the two. An
enum's binary form is its label's text and a domain's is its base type's, so these travel as text and as the base
type. All others travel as themselves and have to exist, made alike, on both sides. Arrays and composites carry type
numbers inside; the servers overlook a difference there unless both types are the server's own (array_recv and
record_recv since PostgreSQL 14).
"""

from collections.abc import Mapping
from dataclasses import replace

from alih.model.catalog import Catalog, ColumnInfo, TypeInfo, TypeKind

Types = Mapping[str, TypeInfo]

_OBJECTS = frozenset({
    "oid", "oidvector", "regclass", "regcollation", "regconfig", "regdictionary", "regnamespace", "regoper",
    "regoperator", "regproc", "regprocedure", "regrole", "regtype",
})  # fmt: skip
_LEAVE_OUT = "leave the column out, or change its type"
_NO_VALUE = {
    **dict.fromkeys(
        _OBJECTS, ("whose values are numbers of this server's own objects", "leave the column out, or use bigint")
    ),
    "money": ("whose digits mean what lc_monetary says", "change it to numeric, or leave the column out"),
    "xml": ("whose binary form depends on how the server was built", "change it to text, or leave the column out"),
    "aclitem": ("that has no binary form", _LEAVE_OUT),
}
_WORDS = {
    TypeKind.COMPOSITE: "composite",
    TypeKind.MULTIRANGE: "multirange",
    TypeKind.RANGE: "range",
    TypeKind.ENUM: "enum",
    TypeKind.DOMAIN: "domain",
}
Obstacle = tuple[str, str]
"""What a column's type is, and the remedy."""


def travelling(column: ColumnInfo, types: Types) -> ColumnInfo:
    """The column with the type that its values travel as."""
    name, full = _wire(column.type, column.full_type, types)
    return column if name == column.type else replace(column, type=name, full_type=full)


def _wire(name: str, full: str, types: Types) -> tuple[str, str]:
    """A type without and with its length, as it travels."""
    element, array = _element(name)
    match types.get(element):
        case TypeInfo(kind=TypeKind.ENUM):
            return f"text{array}", f"text{array}"
        case TypeInfo(kind=TypeKind.DOMAIN, made_of=(base, full_base)):
            inner, full_inner = _wire(base, full_base, types)
            return f"{inner}{array}", f"{full_inner}{array}"
        case _:
            return name, full


def enum(column: ColumnInfo, types: Types) -> str | None:
    """The enum type, or array of one, that text has to be cast to for this column; None if it holds no enum."""
    name, arrays = column.type, ""
    while True:
        element, array = _element(name)
        arrays += array
        match types.get(element):
            case TypeInfo(kind=TypeKind.ENUM):
                return element + arrays
            case TypeInfo(kind=TypeKind.DOMAIN, made_of=(base, _)):
                name = base
            case _:
                return None


def _element(name: str) -> tuple[str, str]:
    element = name.removesuffix("[]")
    return element, name[len(element) :]


def obstacle(column: ColumnInfo, here: Catalog, there: Catalog) -> Obstacle | None:
    """Why the values of a column of `here` cannot cross, and what to do. `there` is the other database."""
    name = travelling(column, here.types).type
    if name.endswith("[][]"):
        return f"an array of a domain over an array ({column.type})", _LEAVE_OUT
    return _obstacle(name, column, here, there)


def _obstacle(name: str, column: ColumnInfo, here: Catalog, there: Catalog) -> Obstacle | None:
    element, _ = _element(name)
    if element in _NO_VALUE:
        what, remedy = _NO_VALUE[element]
        return f"of type {element}, {what}", remedy
    if column.kind is TypeKind.PSEUDO:
        return f"of a pseudo-type ({column.type})", _LEAVE_OUT
    info = here.types.get(element)
    if info is not None:
        return _made(info, column, here, there)
    if column.kind is TypeKind.COMPOSITE and "." in element:
        return f"of the row type of a table ({column.type})", f"CREATE TYPE … AS (…) on both sides; or {_LEAVE_OUT}"
    return None if "." not in element else (f"of a type that is not known ({column.type})", _LEAVE_OUT)


def _made(info: TypeInfo, column: ColumnInfo, here: Catalog, there: Catalog) -> Obstacle | None:
    if not info.binary:
        return f"of type {info.name}, that has no binary form", _LEAVE_OUT
    word = _WORDS.get(info.kind, "type")
    other = there.types.get(info.name)
    if other is None:
        remedy = f"{_creation(info)} there, or {_LEAVE_OUT}"
        return f"of the {word} {info.name}, which the other database does not have", remedy
    if (other.kind, _comparable(other)) != (info.kind, _comparable(info)):
        return f"of the {word} {info.name}, which is made otherwise in the other database", "make the two types alike"
    inner = (_obstacle(part, column, here, there) for part in info.parts)
    return next((found for found in inner if found), None)


def _comparable(info: TypeInfo) -> object:
    """Labels are in an order that does not travel."""
    return frozenset(info.made_of) if info.kind is TypeKind.ENUM else info.made_of


def _creation(info: TypeInfo) -> str:
    match info:
        case TypeInfo(kind=TypeKind.BASE, made_of=(extension,)):
            schema = info.name.rpartition(".")[0]
            return f"CREATE EXTENSION {extension} SCHEMA {schema}"
        case _:
            return f"create the type {info.name}"
