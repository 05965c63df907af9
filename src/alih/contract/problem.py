"""What is wrong with a contract, and the gathering of it: alih names everything at once, not the first thing."""

from collections.abc import Iterable
from dataclasses import dataclass

from alih.errors import Refused
from alih.model.contract import Place


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to change in `alih.yaml` (or, where the remedy says so, in a database)."""

    place: Place
    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.place}: {self.what} → {self.remedy}"


def refused(problems: Iterable[Problem]) -> Refused:
    """One refusal that lists every problem, one a line, in the order of the file."""
    ordered = sorted(problems, key=lambda p: (p.place.file, p.place.line))
    return Refused("\n".join(map(str, ordered)), remedy="change what each line names, then run `alih check`")
