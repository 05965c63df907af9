"""Documents as text, and percentiles."""

import pytest

from alih.faces import lines, percentiles


def test_a_document_as_text() -> None:
    document = {"a": 1, "b": {"c": None, "d": {}}, "e": [{"x": 1, "y": [2]}, "z", 3], "f": []}
    assert list(lines(document)) == [
        "a: 1",
        "b:",
        "  c: None",
        "  d:",
        "e:",
        "  - x 1, y [2]",
        "  - z",
        "  - 3",
        "f:",
    ]


@pytest.mark.parametrize(
    ("waits", "p50", "p99", "most"),
    [([], 0.0, 0.0, 0.0), ([7.0], 7.0, 7.0, 7.0), ([float(n) for n in range(101)], 50.0, 99.0, 100.0)],
)
def test_percentiles(waits: list[float], p50: float, p99: float, most: float) -> None:
    assert percentiles(waits) == {"p50": p50, "p99": p99, "max": most}
