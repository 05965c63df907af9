"""Where each target column comes from, for the reader of `alih check`."""

from dataclasses import dataclass

from alih.contract import ways
from alih.model.catalog import Catalog
from alih.model.contract import Contract, PersonalData


@dataclass(frozen=True, slots=True, kw_only=True)
class LineageRow:
    """One target column: the source columns it is made of (none for a constant), its class and its purpose."""

    entity: str
    target_column: str
    source_columns: tuple[str, ...]
    personal_data: PersonalData | None
    purpose: str


def lineage(contract: Contract, source: Catalog, target: Catalog) -> list[LineageRow]:
    """A row for each field, in the contract's order; source columns in table order. Columns neither catalog knows
    are left to `check`."""
    rows = []
    for entity in contract.entities:
        table, columns = source.table(entity.source), target.table(entity.target)
        order = [c.name for c in table.columns] if table else []
        for field in entity.fields:
            if columns is None or columns.column(field.target) is None:
                continue
            made_of = ways.sources(field.rule)
            rows.append(
                LineageRow(
                    entity=entity.name,
                    target_column=field.target,
                    source_columns=tuple(c for c in order if c in made_of),
                    personal_data=field.data,
                    purpose=entity.purpose,
                )
            )
    return rows
