"""Problems of one contract file as they are found."""

from dataclasses import dataclass, field

from alih.contract.document import Document, Step
from alih.contract.problem import Problem


@dataclass(frozen=True, slots=True)
class Findings:
    """Gathers problems by their path in the file."""

    document: Document
    problems: list[Problem] = field(default_factory=list)

    def add(self, path: tuple[Step, ...], what: str, remedy: str) -> None:
        self.problems.append(Problem(self.document.place(*path), what, remedy))
