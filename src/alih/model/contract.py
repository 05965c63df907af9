"""The contract of a migration as values: what crosses, under which name, for which purpose.

Made once from `alih.yaml` by `alih.contract`; everything else in alih reads these and never YAML.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from alih.model.commerce import Payments, Rules, Sales, Trial
from alih.model.side import Side

_WHOLE = re.compile(r"-?[0-9]{1,19}", re.ASCII)


class Scope(StrEnum):
    """Whose rows a table holds; decides which owner row fences it and when it is cut over."""

    TENANT = "tenant"  # each row belongs to one tenant and moves with it
    SHARED = "shared"  # rows of everybody; they flip together, after the last cohort
    REFERENCE = "reference"  # written at the source only, read on both sides; never flips


class History(StrEnum):
    """Whether rows that existed before the copy cross."""

    MOVES = "moves"
    STAYS = "stays"


class PersonalData(StrEnum):
    """The class of a field's personal data."""

    GENERAL = "general"
    SPECIFIC = "specific"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where in `alih.yaml` a value stands, for error messages: `alih.yaml:12: entities.orders`."""

    file: str
    line: int
    path: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.path}"


@dataclass(frozen=True, slots=True)
class Table:
    """A table by schema and name, unquoted."""

    schema: str
    name: str

    def __str__(self) -> str:
        return f"{self.schema}.{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plain:
    """The source column as it is, cast to the target column's type."""

    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Coded:
    """One code list for another. Codes are compared as text.

    `backward` adds target codes that have no source twin (several target codes may mean one source code). Where
    several source codes become one, the first comes back. `other` is the target code of every source code that is
    not listed, `reverse_other` the source code of every target code that is not; None: such a code gives NULL.
    """

    source: str
    forward: Mapping[str, str]
    backward: Mapping[str, str]
    other: str | None = None
    reverse_other: str | None = None

    @property
    def back(self) -> Mapping[str, str]:
        """Target code → source code."""
        back: dict[str, str] = {}
        for code, target in self.forward.items():
            back.setdefault(target, code)
        return back | dict(self.backward)


@dataclass(frozen=True, slots=True, kw_only=True)
class Linked:
    """The id that the row of `entity` has on the other side, by that entity's link table."""

    source: str
    entity: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Shifted:
    """The id that the row of `entity` has on the other side: `by` more than at the source."""

    source: str
    entity: str
    by: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Expression:
    """SQL over the source's columns; `reverse` is SQL over the target's columns and gives back the one
    source column that `sql` reads. An expression of several columns has its way back in `Entity.reverse`."""

    sql: str
    reverse: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """The same SQL literal in every row that crosses."""

    sql: str


Rule = Plain | Coded | Linked | Shifted | Expression | Constant


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One column of the target and how it is made; its personal-data class, if it holds any."""

    target: str
    rule: Rule
    data: PersonalData | None
    place: Place


@dataclass(frozen=True, slots=True)
class Own:
    """The tenant's id stands in this source column (the key column itself for the tenant entity)."""

    column: str


@dataclass(frozen=True, slots=True)
class Via:
    """The row belongs to the tenant of its parent row: source `column` holds the parent's (single-column) key."""

    entity: str
    column: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Entity:
    """One kind of row that crosses. `key` pairs source and target key columns, in key order.

    `ours` is SQL over the target's columns that says which target rows belong to the moved shop.
    `link` is SQL on the target database giving (source key, target key) of rows that exist on both sides.
    `offset` is what the target's key has more than the source's.
    `reverse` gives SQL over the target's columns for source columns that no single field can give back.
    `keep` gives reasons for source columns that the target cannot give back whole: what crosses of them comes back
    only when it was changed there; else the source's row keeps the value that it has.
    """

    name: str
    source: Table
    target: Table
    key: tuple[tuple[str, str], ...]
    scope: Scope
    tenant: Own | Via | None
    history: History
    fields: tuple[Field, ...]
    reverse: Mapping[str, str]
    not_moved: Mapping[str, str]
    ours: str | None
    link: str | None
    offset: int | None
    keep: Mapping[str, str]
    purpose: str
    place: Place

    def shifted(self, identifier: str, *, back: bool) -> str | None:
        """The id on the other side, of an entity with an offset; None for what is no whole number."""
        if self.offset is None or not _WHOLE.fullmatch(identifier):
            return None
        return str(int(identifier) + (-self.offset if back else self.offset))


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """One value of an operation's request or answer.

    `path` is dotted, its first word the part it comes from: for a request `path`, `query`, `header`, `body`;
    for an answer `body`. Exactly one of the conversions applies, or none (JSON value passed as it is).
    """

    path: str
    cast: str | None = None  # text | integer | rupiah_text ("145000.00") | rupiah (integer)
    coded: str | None = None  # "entity.target_column": that field's code list, in this direction
    link: str | None = None  # entity whose link or offset gives the other side's id


@dataclass(frozen=True, slots=True, kw_only=True)
class Each:
    """A list: every item of the list at `path` becomes an object of `shape`; inside, paths start with `item`."""

    path: str
    shape: "Shape"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """A literal that the contract itself states."""

    literal: str | int | bool


Shape = Mapping[str, "Value | Each | Fixed | Shape"]  # nested objects by nested mappings


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One call that crosses after the move. Nothing that is not named in `request`, `headers` or `answer` passes.

    `front` and `target` are (method, path template); names in braces of the target's path are keys of `path`.
    `content` is "json", or "html" for a document whose body is passed on whole (an invoice).
    """

    name: str
    front: tuple[str, str]
    target: tuple[str, str]
    purpose: str
    path: Shape
    query: Shape
    headers: Shape
    request: Shape
    answer: Shape
    content: str
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Cohort:
    """Tenants that are cut over one after another under one command: named ones, a share, or all that remain."""

    name: str
    tenants: tuple[str, ...] = ()
    share: float | None = None
    rest: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """Where requests come in and where they go. Upstreams are `host:port`; ports of 0 are refused.

    `tenant_path` is a template with the tenant's placeholder, e.g. `/api/shops/{shop_id}`.
    `shared_paths` are prefixes of calls that read or write shared rows or rows of many tenants (a buyer's own
    orders): they follow the shared rows' owner, behind a read barrier while tenants are split.
    `operator_secret` is a bearer token that the adapter shows to the target back end.
    """

    listen: str
    front: str
    source: str
    target: str
    tenant_path: str
    shared_paths: tuple[str, ...]
    request_max_ms: int
    operator_secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A database: a DSN of the operator's, or None for a cluster that alih embeds."""

    dsn: str | None = field(repr=False)
    version: int = 18


@dataclass(frozen=True, slots=True, kw_only=True)
class CopyLimits:
    """How hard a copy may press the databases: by each process at most `rate_mb_per_s` (MB read off the source), and
    none while a replica lags, or a commit of the target takes, longer than that. None is no limit."""

    workers: int = 2
    rate_mb_per_s: int | None = None
    max_replica_lag_ms: int | None = None
    max_target_latency_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """One migration. `tables_not_moved` names source tables that stay behind, each with its reason."""

    name: str
    source: Endpoint
    target: Endpoint
    control: Endpoint
    tenant_entity: str | None
    entities: tuple[Entity, ...]
    tables_not_moved: Mapping[str, str]
    operations: tuple[Operation, ...]
    gateway: Gateway | None
    cohorts: tuple[Cohort, ...]
    wave: int = 20
    sales: Sales | None = None
    payments: Payments | None = None
    trial: Trial | None = None
    rules: Rules | None = None
    copying: CopyLimits = field(default_factory=CopyLimits)
    file: str = "alih.yaml"
    sha256: str = ""  # of the file, for the evidence
    text: str = field(default="", repr=False)  # of the file: names of secrets, never their values

    def entity(self, name: str) -> Entity:
        """The entity of that name; KeyError if there is none."""
        return self._by_name()[name]

    def operation(self, name: str) -> Operation:
        """The operation of that name; KeyError if there is none."""
        return {o.name: o for o in self.operations}[name]

    def _by_name(self) -> Mapping[str, Entity]:
        return MappingProxyType({e.name: e for e in self.entities})

    def endpoint(self, side: Side) -> Endpoint:
        return self.source if side is Side.SOURCE else self.target
