"""A database's schema as values: what the contract is checked against and compiled with.

Read by `alih.postgres.catalog`; by hand in tests. Types are spelled as `format_type` prints them under an empty
search path, so that they mean the same in every session.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from alih.model.contract import Table


class TypeKind(StrEnum):
    """Kinds of types (`pg_type.typtype`); for an array, the kind of its elements."""

    BASE = "b"
    COMPOSITE = "c"
    DOMAIN = "d"
    ENUM = "e"
    MULTIRANGE = "m"
    PSEUDO = "p"
    RANGE = "r"


class TableKind(StrEnum):
    """Kinds of tables (`pg_class.relkind`) that can stand where a contract names a table."""

    TABLE = "r"
    PARTITIONED = "p"
    VIEW = "v"
    MATERIALIZED_VIEW = "m"
    FOREIGN = "f"


class ReplicaIdentity(StrEnum):
    """Which old columns the log carries with an update or a delete (`pg_class.relreplident`)."""

    DEFAULT = "d"
    NOTHING = "n"
    FULL = "f"
    INDEX = "i"


@dataclass(frozen=True, slots=True, kw_only=True)
class TypeInfo:
    """A type that is not the server's own; its number differs on every server, so it is known by its name.

    `made_of`: an enum's labels; a domain's base type, without length and with it; a composite's attributes, each with
    its type; a range's subtype; the extension of a base type. `parts` are the types inside, by name. `binary` says
    that it can be sent and received in binary.
    """

    name: str
    kind: TypeKind
    made_of: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    binary: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnInfo:
    """A column. `type` has no length (`character varying`), `full_type` has it (`character varying(20)`)."""

    name: str
    type: str
    full_type: str
    not_null: bool = False
    default: str | None = None
    generated: bool = False
    identity: bool = False
    always: bool = False  # an identity that no UPDATE may set
    kind: TypeKind = TypeKind.BASE
    array: bool = False

    @property
    def filled(self) -> bool:
        """Whether a row may leave this column out."""
        return not self.not_null or self.default is not None or self.identity or self.generated


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignKey:
    """`columns` of the table hold `referenced` columns of the table `references`."""

    name: str
    columns: tuple[str, ...]
    references: Table
    referenced: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TableInfo:
    """A table. `unique_keys` are the column lists of whole, immediate unique indexes other than the primary key;
    `identity_columns` are what the log carries of a deleted row, in the index's order (empty for FULL and NOTHING).
    """

    table: Table
    columns: tuple[ColumnInfo, ...]
    primary_key: tuple[str, ...] = ()
    unique_keys: tuple[tuple[str, ...], ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    replica_identity: ReplicaIdentity = ReplicaIdentity.DEFAULT
    identity_columns: tuple[str, ...] = ()
    kind: TableKind = TableKind.TABLE
    inherits: bool = False  # it is a parent or a child of another table, partitions apart
    partition: bool = False  # of a partitioned table
    odd_partitions: tuple[str, ...] = ()  # whose replica identity is another, or whose rows are in another server
    owner: str = ""
    row_estimate: int = 0
    row_security: bool = False

    def column(self, name: str) -> ColumnInfo | None:
        return next((c for c in self.columns if c.name == name), None)

    @property
    def names(self) -> frozenset[str]:
        return frozenset(c.name for c in self.columns)

    @property
    def keys(self) -> tuple[tuple[str, ...], ...]:
        """The primary key, then every unique key without nullable columns."""
        not_null = {c.name for c in self.columns if c.not_null}
        whole = tuple(k for k in self.unique_keys if not_null.issuperset(k))
        return ((self.primary_key,) if self.primary_key else ()) + whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalog:
    """One database. `server_version` as `server_version_num` (180001); `system_identifier` names the cluster;
    `types` are those that are not the server's own, by name."""

    tables: Mapping[Table, TableInfo] = field(default_factory=lambda: MappingProxyType({}))
    types: Mapping[str, TypeInfo] = field(default_factory=lambda: MappingProxyType({}))
    server_version: int = 180000
    system_identifier: str = ""
    database: str = ""

    def table(self, table: Table) -> TableInfo | None:
        return self.tables.get(table)
