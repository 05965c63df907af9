"""What verification says: data, not exceptions. Keys and columns are named, values never."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from alih.model.change import Lsn

MOST_FINDINGS = 10_000
"""So many are listed: where there are as many, there may be more."""


class Cause(StrEnum):
    """What a difference most likely comes from."""

    MISSING = "missing"  # the row never reached the writing side, or was deleted there
    SURPLUS = "surplus"  # the writing side has a row that the reading side lacks
    DIFFERENT = "different"  # both have it, with other values


@dataclass(frozen=True, slots=True)
class Image:
    """A row as one side has it, hashed; `columns` are the hashes of its values in the writing side's order.

    `tenant` is who has to agree that the row crosses: None for rows that never change hands."""

    hash: int
    columns: tuple[int, ...]
    tenant: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One row that differs, by its key on the writing side: the columns that differ there, and the row's hash on the
    reading and on the writing side (None where it is not)."""

    entity: str
    key: tuple[str, ...]
    cause: Cause
    columns: tuple[str, ...] = ()
    hashes: tuple[int | None, int | None] = (None, None)

    def document(self) -> dict[str, Any]:
        """As it is stored and printed."""
        return {
            "entity": self.entity,
            "key": list(self.key),
            "cause": self.cause.value,
            "columns": list(self.columns),
            "hashes": [None if number is None else f"{number % (1 << 64):016x}" for number in self.hashes],
        }

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> "Finding":
        """The finding that was stored; its hashes stay behind, for nothing is decided by old ones."""
        return cls(
            entity=document["entity"],
            key=tuple(document["key"]),
            cause=Cause(document["cause"]),
            columns=tuple(document.get("columns", ())),
        )


def finding(
    entity: str, key: tuple[str, ...], columns: Sequence[str], read: Image | None, written: Image | None
) -> Finding | None:
    """What is to be said of a row that both sides have at one position of the log; None if nothing is."""
    hashes = (read.hash if read else None, written.hash if written else None)
    if hashes[0] == hashes[1]:
        return None
    if read is None or written is None:
        return Finding(entity=entity, key=key, cause=Cause.SURPLUS if read is None else Cause.MISSING, hashes=hashes)
    unequal = tuple(
        name for name, here, there in zip(columns, read.columns, written.columns, strict=True) if here != there
    )
    return Finding(entity=entity, key=key, cause=Cause.DIFFERENT, columns=unequal, hashes=hashes)


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
