"""The bench of the copy, in small: what it says has all its parts, and every run carried every row (it looks)."""

import json

import pytest

from alih.bench import copy
from alih.bench.world import Servers


@pytest.mark.anyio
async def test_a_kind_has_its_figures(both: Servers) -> None:
    found = await copy.kind(both, "mapped", 2000, 2)
    assert json.loads(json.dumps(found)) == found
    assert found.keys() == {
        "ratio",
        "interval",
        "rows",
        "seconds",
        "limit",
        "limit_seconds",
        "mb_per_s",
        "memory_mb",
    }
    low, high = found["interval"]
    assert 0 < low <= found["ratio"] <= high
    assert found["rows"] == 2000
    assert found["limit"] in ("one pipe", "two pipes")
    assert 20 < found["memory_mb"] < 150


def test_the_least_kind_is_the_figure() -> None:
    kinds = {
        name: {"ratio": r, "interval": [r, r], "seconds": 2.0, "memory_mb": 60.0}
        for name, r in (("a", 1.1), ("b", 0.9), ("c", 1.0))
    }
    total = copy.summary(kinds)
    assert (total["ratio_to_limit"], total["interval"], total["seconds"]) == (0.9, [0.9, 0.9], 6.0)
