"""Every number and every moment of the page, by name and as a plain value: what a script holds against the bundle."""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """How a value is read, and so how it is shown."""

    COUNT = "count"
    RUPIAH = "idr"
    DURATION = "ms"
    SCORE = "score"  # text with two decimals
    MOMENT = "at"  # ISO 8601, UTC
    DAY = "day"  # ISO 8601


@dataclass(frozen=True, slots=True)
class Figure:
    """A value as evidence writes it: whole rupiah, whole ms, UTC."""

    value: int | str
    kind: Kind


class Figures(dict[str, Figure]):
    """Name → figure. A name is set once."""

    def put(self, kind: Kind, prefix: str, **values: int | str | None) -> None:
        """`prefix.name` for each of `values`; one that is None is left out."""
        for name, value in values.items():
            if value is None:
                continue
            full = f"{prefix}.{name}"
            if full in self:
                raise KeyError(f"figure {full} is set twice")
            self[full] = Figure(value, kind)

    def count(self, prefix: str, **values: int | None) -> None:
        self.put(Kind.COUNT, prefix, **values)

    def rupiah(self, prefix: str, **values: int | None) -> None:
        self.put(Kind.RUPIAH, prefix, **values)

    def duration(self, prefix: str, **values: int | None) -> None:
        self.put(Kind.DURATION, prefix, **values)

    def score(self, prefix: str, **values: str) -> None:
        self.put(Kind.SCORE, prefix, **values)

    def moment(self, prefix: str, **values: str | None) -> None:
        self.put(Kind.MOMENT, prefix, **values)

    def plain(self) -> dict[str, int | str]:
        return {name: figure.value for name, figure in self.items()}
