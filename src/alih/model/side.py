"""The two back ends of a migration, and which of them owns a tenant."""

from dataclasses import dataclass
from enum import StrEnum

SHARED = "@shared"
"""The name under which the shared rows are fenced and cut over, as if they were one tenant."""


class Side(StrEnum):
    """A back end of the migration."""

    SOURCE = "source"
    TARGET = "target"

    @property
    def other(self) -> "Side":
        return Side.TARGET if self is Side.SOURCE else Side.SOURCE


@dataclass(frozen=True, slots=True)
class Ownership:
    """Who may write a tenant's rows; `epoch` grows by one at every flip (a fencing token)."""

    tenant: str
    side: Side
    epoch: int
