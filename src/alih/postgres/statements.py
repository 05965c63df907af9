"""The set-based statements that write one entity's staged changes; composed once for each projection.

The staging table is shaped like the reading side's rows, so the very SQL that `COPY` evaluates on the reading side
is evaluated here on the writing side. In all of it `r` is a staged row and `w` a row of the table written.
"""

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
        return sql.SQL(
            'CREATE TEMP TABLE IF NOT EXISTS {} (_op "char" NOT NULL, _mask text, _xid bigint, _tenant text, {})'
            " ON COMMIT DELETE ROWS"
        ).format(self.stage, sql.SQL(", ").join(shape))

    def _shape(self) -> list[tuple[str, str]]:
        olds = [(f"_old_{c.name}", _UNSIZED.get(c.wire, c.wire)) for c in self.projection.read_key]
        return olds + [(c.name, _UNSIZED.get(c.wire, c.wire)) for c in self.projection.read_columns]

    @cached_property
    def fill(self) -> sql.Composed:
        """Binary rows of (op, mask, xid, old key…, columns…)."""
        names = ["_op", "_mask", "_xid", *(name for name, _ in self._shape())]
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
            table(self.projection), self.stage, self._same_key
        )

    def update(self, kind: Kind, missing: frozenset[str], mask: str) -> sql.Composed | None:
        """The update of the rows staged with this mask, whose columns `missing` did not arrive: it sets what needs
        none of them. None when there is nothing to set."""
        present = [a for a in self.projection.assignments if not a.key and not a.inputs & missing]
        if not present:
            return None
        return sql.SQL("UPDATE {} w SET ({}) = ROW({}) FROM {} r WHERE r._op = {} AND r._mask = {} AND {}").format(
            table(self.projection),
            columns([a.column for a in present]),
            _changes(present),
            self.stage,
            sql.Literal(kind.value),
            sql.Literal(mask),
            self._same_key,
        )

    @cached_property
    def insert(self) -> sql.Composed:
        assignments = self.projection.assignments
        return sql.SQL(
            "INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE SELECT {} FROM {} r WHERE r._op IN ('I', 'R')"
        ).format(
            table(self.projection), columns([a.column for a in assignments]), _expressions(assignments), self.stage
        )

    def move(self, missing: frozenset[str]) -> sql.Composed:
        """The one row of a segment that changes a key; what needs the columns `missing` stays as it is."""
        present = [a for a in self.projection.assignments if not a.inputs & missing]
        return sql.SQL("UPDATE {} w SET ({}) = (SELECT {} FROM {} r) FROM {} r WHERE {}").format(
            table(self.projection),
            columns([a.column for a in present]),
            _changes(present),
            self.stage,
            self.old_keys,
            self._same_key,
        )

    @cached_property
    def old_keys(self) -> sql.Composed:
        """The former keys of staged moves, under the key columns' names."""
        old = [
            sql.SQL("s.{} AS {}").format(sql.Identifier(f"_old_{c.name}"), sql.Identifier(c.name)) for c in self._key
        ]
        return sql.SQL("(SELECT s._xid, s._tenant, {} FROM {} s WHERE s._op = 'K')").format(
            sql.SQL(", ").join(old), self.stage
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
    def tenant_of_written(self) -> sql.Composed:
        """Rows to be deleted (only their key arrived) or replaced: the tenant of the row that stands there now."""
        owner = trusted(self.projection.tenant_write or "NULL")
        return sql.SQL("UPDATE {} r SET _tenant = (SELECT {} FROM {} w WHERE {}) WHERE r._op IN ('D', 'R')").format(
            self.stage, owner, table(self.projection), self._same_key
        )

    @cached_property
    def tenant_of_staged(self) -> sql.Composed:
        """Other rows: by their own column, or by the parent row, which is written before its children."""
        return sql.SQL("UPDATE {} r SET _tenant = {} WHERE r._op NOT IN ('D', 'R')").format(
            self.stage, self._staged_tenant
        )

    @property
    def _staged_tenant(self) -> sql.Composable:
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

    def take_strays(self, position: Lsn, *, deletes: bool) -> sql.Composed:
        """Remove what this stream does not apply for its tenant, and record it as stray if the tenant is known;
        of the deletes and replacements, or of the rest."""
        read = [sql.SQL("(r.{})::text").format(sql.Identifier(c.name)) for c in self._key]
        return sql.SQL(
            "WITH gone AS (DELETE FROM {stage} r WHERE (r._op IN ('D', 'R')) = {deletes}"
            " AND NOT coalesce((SELECT f.applies FROM alih.flow f"
            " WHERE f.direction = {direction} AND f.tenant = {tenant}), {default})"
            " RETURNING {tenant} AS tenant, ARRAY[{read}] AS read_key)"
            " INSERT INTO alih.stray (direction, entity, tenant, read_key, position)"
            " SELECT {direction}, {entity}, tenant, read_key, {position} FROM gone WHERE tenant IS NOT NULL"
        ).format(
            stage=self.stage,
            direction=sql.Literal(self.projection.direction.value),
            entity=sql.Literal(self.projection.entity),
            tenant=self.tenant,
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
    def tenant(self) -> sql.Composable:
        return sql.Literal(SHARED) if self.projection.scope is Scope.SHARED else sql.SQL("r._tenant")

    @property
    def _same_key(self) -> sql.Composed:
        pairs = [
            sql.SQL("w.{} = {}").format(sql.Identifier(a.column), trusted(a.sql)) for a in self.projection.write_key
        ]
        return sql.SQL(" AND ").join(pairs)


def _expressions(assignments: "list[Assignment] | tuple[Assignment, ...]") -> sql.Composed:
    return sql.SQL(", ").join(trusted(a.sql) for a in assignments)


def _changes(assignments: "list[Assignment] | tuple[Assignment, ...]") -> sql.Composed:
    """The same for a row `w` that is there."""
    return sql.SQL(", ").join(trusted(a.update or a.sql) for a in assignments)
