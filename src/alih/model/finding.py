"""What verification says: data, not exceptions. Keys and columns are named, values never."""

from dataclasses import dataclass
from enum import StrEnum

from alih.model.change import Lsn


class Cause(StrEnum):
    """What a difference most likely comes from."""

    MISSING = "missing"  # the row never reached the writing side, or was deleted there
    SURPLUS = "surplus"  # the writing side has a row that the reading side lacks
    DIFFERENT = "different"  # both have it, with other values


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One row that differs, by its key on the writing side."""

    entity: str
    key: tuple[str, ...]
    cause: Cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a verification found. `undecided` rows changed faster than they could be looked at."""

    rows: int
    findings: tuple[Finding, ...]
    undecided: int
    position: Lsn

    @property
    def clean(self) -> bool:
        return not self.findings and not self.undecided
