"""The set-based statements that write one entity's staged changes; composed once for each projection.

The staging table is shaped like the reading side's rows, so the very SQL that `COPY` evaluates on the reading side
is evaluated here on the writing side. In all of it `r` is a staged row and `w` a row of the table written.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from psycopg import sql

from alih.model.change import Lsn
from alih.model.compaction import Kind
from alih.model.contract import Scope
from alih.model.projection import Assignment, Direction, Projection, ReadColumn
from alih.model.side import SHARED

_UNSIZED = {"character": "bpchar", "bit": "varbit"}  # without a length these two would mean length 1


def trusted(text: str) -> sql.SQL:
    """SQL text that alih.contract has parsed, qualified and printed itself."""
    return sql.SQL(text)


def table(projection: Projection) -> sql.Identifier:
    return sql.Identifier(projection.writes.schema, projection.writes.name)


def columns(names: "list[str] | tuple[str, ...]") -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, names))


@dataclass(frozen=True)
class Statements:
    """What is run for one entity of one stream. Each method's docstring says what the statement does."""

    projection: Projection
    parent: Projection | None

    @cached_property
    def stage(self) -> sql.Identifier:
        return sql.Identifier(f"stage_{self.projection.entity}")

    @cached_property
    def create_stage(self) -> sql.Composed:
        """One per session; emptied at each commit."""
        shape = [sql.SQL("{} {}").format(sql.Identifier(name), trusted(type_)) for name, type_ in self._shape()]
        return sql.SQL('CREATE TEMP TABLE IF NOT EXISTS {} (_op "char" NOT NULL, {}) ON COMMIT DELETE ROWS').format(
            self.stage, sql.SQL(", ").join(shape)
        )

    def _shape(self) -> list[tuple[str, str]]:
        olds = [(f"_old_{c.name}", _UNSIZED.get(c.wire, c.wire)) for c in self.projection.read_key]
        row = [(c.name, _UNSIZED.get(c.wire, c.wire)) for c in self.projection.read_columns]
        return [("_mask", "text"), *olds, ("_xid", "bigint"), *row]

    @cached_property
    def fill(self) -> sql.Composed:
        """Binary rows of (op, mask, old key…, xid, columns…)."""
        names = ["_op", *(name for name, _ in self._shape())]
        return sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(self.stage, columns(names))

    @cached_property
    def empty(self) -> sql.Composed:
        return sql.SQL("TRUNCATE {}").format(self.stage)

    @cached_property
    def counts(self) -> sql.Composed:
        return sql.SQL("SELECT _op::text, _mask, count(*) FROM {} GROUP BY 1, 2").format(self.stage)

    @cached_property
    def delete(self) -> sql.Composed:
        return sql.SQL("DELETE FROM {} w USING {} r WHERE r._op IN ('D', 'R') AND {}").format(
            table(self.projection), self.stage, self.same_key
        )

    def update(self, kind: Kind, mask: str, *, aside: bool = False) -> sql.Composed | None:
        """The update of the rows staged with this mask, which names the columns that did not arrive: it sets what
        needs none of them. None when there is nothing to set. `aside`: of the rows that were set aside."""
        missing = self.missing(mask)
        present = [a for a in self.projection.assignments if not a.key and not a.inputs & missing]
        if not present:
            return None
        return sql.SQL("UPDATE {} w SET ({}) = ROW({}) FROM {} r WHERE r._op = {} AND r._mask = {} AND {}").format(
            self.aside if aside else table(self.projection),
            columns([a.column for a in present]),
            _changes(present),
            self.stage,
            sql.Literal(kind.value),
            sql.Literal(mask),
            self.same_key,
        )

    def missing(self, mask: str) -> frozenset[str]:
        """The columns that a mask names."""
        return frozenset(self.projection.read_columns[int(place)].name for place in mask.split(",") if place)

    @property
    def aside(self) -> sql.Identifier:
        return sql.Identifier(f"aside_{self.projection.entity}")

    @property
    def make_aside(self) -> Sequence[sql.Composed]:
        """A table for the rows that are set aside, empty; the statements one by one."""
        return (
            sql.SQL("CREATE TEMP TABLE IF NOT EXISTS {} (LIKE {}) ON COMMIT DELETE ROWS").format(
                self.aside, table(self.projection)
            ),
            sql.SQL("TRUNCATE {}").format(self.aside),
        )

    def set_aside(self, names: Sequence[str]) -> sql.Composed:
        """Take the rows that are to be updated out of the table; `names` are all columns that can be written."""
        return sql.SQL(
            "WITH gone AS (DELETE FROM {} w USING {} r WHERE r._op IN ('U', 'P') AND {} RETURNING {})"
            " INSERT INTO {} ({}) SELECT * FROM gone"
        ).format(
            table(self.projection),
            self.stage,
            self.same_key,
            sql.SQL(", ").join(sql.SQL("w.{}").format(sql.Identifier(name)) for name in names),
            self.aside,
            columns(list(names)),
        )

    def put_back(self, names: Sequence[str]) -> sql.Composed:
        """Insert the rows that were set aside, changed meanwhile."""
        return sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {}").format(
            table(self.projection), columns(list(names)), columns(list(names)), self.aside
        )

    @cached_property
    def insert(self) -> sql.Composed:
        assignments = self.projection.assignments
        return sql.SQL(
            "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {} r WHERE r._op IN ('I', 'R')"
        ).format(
            table(self.projection), columns([a.column for a in assignments]), _expressions(assignments), self.stage
        )

    def move(self, mask: str) -> sql.Composed:
        """The one row of a segment that changes a key; what needs the columns that did not arrive stays as it is."""
        missing = self.missing(mask)
        present = [a for a in self.projection.assignments if not a.inputs & missing]
        return sql.SQL("UPDATE {} w SET ({}) = (SELECT {} FROM {} r) FROM {} r WHERE {}").format(
            table(self.projection),
            columns([a.column for a in present]),
            _changes(present),
            self.stage,
            self.old_keys,
            self.same_key,
        )

    @cached_property
    def old_keys(self) -> sql.Composed:
        """The former keys of staged moves, under the key columns' names, and the rows' tenants."""
        old = [
            sql.SQL("r.{} AS {}").format(sql.Identifier(f"_old_{c.name}"), sql.Identifier(c.name)) for c in self._key
        ]
        return sql.SQL("(SELECT r._xid, {} AS _tenant, {} FROM {} r WHERE r._op = 'K')").format(
            self.tenant_staged, sql.SQL(", ").join(old), self.stage
        )

    # --- whose row is it? -----------------------------------------------------------------------------------

    @cached_property
    def drop_foreign(self) -> sql.Composed | None:
        """Forget new and changed rows that are not the moved shop's; None where every row is."""
        ours = self.projection.reads_ours
        if ours is None:
            return None
        return sql.SQL("DELETE FROM {} r WHERE r._op <> 'D' AND ({}) IS NOT TRUE").format(self.stage, trusted(ours))

    @cached_property
    def tenant_standing(self) -> sql.Composable:
        """Of a row to be deleted (only its key arrived) or replaced: the tenant of the row that stands there now."""
        if self.projection.scope is not Scope.TENANT:
            return self._same_for_all
        owner = trusted(self.projection.tenant_write or "NULL")
        return sql.SQL("(SELECT {} FROM {} w WHERE {})").format(owner, table(self.projection), self.same_key)

    @cached_property
    def tenant_staged(self) -> sql.Composable:
        """Of other rows: by their own column, or by the parent row, which is written before its children."""
        if self.projection.scope is not Scope.TENANT:
            return self._same_for_all
        link = self.projection.parent
        if link is None or self.parent is None:
            return sql.SQL("({})").format(trusted(self.projection.tenant_read or "NULL"))
        (parent_key,) = (a for a in self.projection.assignments if a.column == link.write_column)
        return sql.SQL("(SELECT {} FROM {} w WHERE w.{} = {})").format(
            trusted(self.parent.tenant_write or "NULL"),
            table(self.parent),
            sql.Identifier(link.parent_write_key),
            trusted(parent_key.sql),
        )

    @property
    def _same_for_all(self) -> sql.Composable:
        return sql.Literal(SHARED) if self.projection.scope is Scope.SHARED else sql.SQL("NULL::text")

    def take_strays(self, position: Lsn, *, deletes: bool) -> sql.Composed:
        """Remove what this stream does not apply for its tenant, and record it as stray if the tenant is known;
        of the deletes and replacements, or of the rest."""
        read = [sql.SQL("(r.{})::text").format(sql.Identifier(c.name)) for c in self._key]
        return sql.SQL(
            "WITH whose AS MATERIALIZED (SELECT r.ctid AS at, {tenant} AS tenant FROM {stage} r"
            " WHERE (r._op IN ('D', 'R')) = {deletes}),"
            " gone AS (DELETE FROM {stage} r USING whose WHERE r.ctid = whose.at"
            " AND NOT coalesce((SELECT f.applies FROM alih.flow f"
            " WHERE f.direction = {direction} AND f.tenant = whose.tenant), {default})"
            " RETURNING whose.tenant, ARRAY[{read}] AS read_key)"
            " INSERT INTO alih.stray (direction, entity, tenant, read_key, position)"
            " SELECT {direction}, {entity}, tenant, read_key, {position} FROM gone WHERE tenant IS NOT NULL"
        ).format(
            stage=self.stage,
            direction=sql.Literal(self.projection.direction.value),
            entity=sql.Literal(self.projection.entity),
            tenant=self.tenant_standing if deletes else self.tenant_staged,
            default=sql.Literal(self.projection.direction is Direction.FORWARD),
            deletes=sql.Literal(deletes),
            position=sql.Literal(str(position)),
            read=sql.SQL(", ").join(read),
        )

    # --- parts ----------------------------------------------------------------------------------------------

    @property
    def _key(self) -> tuple[ReadColumn, ...]:
        return self.projection.read_key

    @property
    def same_key(self) -> sql.Composed:
        pairs = [
            sql.SQL("w.{} = {}").format(sql.Identifier(a.column), trusted(a.sql)) for a in self.projection.write_key
        ]
        return sql.SQL(" AND ").join(pairs)


def _expressions(assignments: "list[Assignment] | tuple[Assignment, ...]") -> sql.Composed:
    return sql.SQL(", ").join(trusted(a.sql) for a in assignments)


def _changes(assignments: "list[Assignment] | tuple[Assignment, ...]") -> sql.Composed:
    """The same for a row `w` that is there."""
    return sql.SQL(", ").join(trusted(a.update or a.sql) for a in assignments)
