"""One entity with both its tables, as the checks look at it."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from alih.contract import expression, ways
from alih.contract.expression import Row
from alih.contract.problem import Problem
from alih.model.catalog import Catalog, TableInfo
from alih.model.contract import Contract, Entity, Expression, Field, Place, Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """An entity whose two tables exist, `source` in the database `here` and `target` in `there`."""

    contract: Contract
    entity: Entity
    source: TableInfo
    target: TableInfo
    here: Catalog
    there: Catalog

    @property
    def returns(self) -> bool:
        """Whether rows of this entity ever go back; reference rows are only ever written at the source."""
        return self.entity.scope is not Scope.REFERENCE

    @property
    def filled(self) -> frozenset[str]:
        return frozenset(f.target for f in self.entity.fields)

    @property
    def mapped(self) -> frozenset[str]:
        """Source columns that some field reads."""
        return frozenset[str]().union(*(ways.sources(f.rule) for f in self.entity.fields))

    def at(self, path: str) -> Place:
        """A place inside the entity; its line is where the entity begins, or where that field stands."""
        return replace(self.entity.place, path=f"{self.entity.place.path}.{path}")

    def problem(self, path: str, what: str, remedy: str) -> Problem:
        return Problem(self.at(path), what, remedy)

    def field(self, target: str) -> Field | None:
        return next((f for f in self.entity.fields if f.target == target), None)

    def target_expressions(self) -> Iterator[tuple[Place, str]]:
        """All SQL over target columns."""
        if self.entity.ours is not None:
            yield self.at("ours"), self.entity.ours
        for column, sql in self.entity.reverse.items():
            yield self.at(f"reverse.{column}"), sql
        for field in self.entity.fields:
            if isinstance(field.rule, Expression) and field.rule.reverse is not None:
                yield field.place, field.rule.reverse

    def returned(self) -> frozenset[str]:
        """Source columns that the way back writes."""
        names = self.source.names - self.entity.not_moved.keys()
        row = Row("r")
        computed = {c.name for c in self.source.columns if c.generated}
        return frozenset(n for n in names - computed if ways.backward(self.entity, n, row) is not None)

    def read_back(self) -> frozenset[str]:
        """Target columns that the way back, or `ours`, reads."""
        sql = (expression.parse(sql).columns for _, sql in self.target_expressions())
        return self.filled.union(*sql)
