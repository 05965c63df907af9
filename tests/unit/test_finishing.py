"""A cohort's way back is not closed while somebody's money is unexplained."""

from collections.abc import Collection
from typing import Any, cast

import pytest

from alih.conductor import Conductor
from alih.errors import NeedsOperator
from alih.model.phase import Done, Phase, Soaking
from alih.model.side import Side

pytestmark = pytest.mark.anyio


class Moved:
    """Two tenants at the target; whatever else is asked of the control database fails the test."""

    async def in_phase(self, *kinds: type[Phase]) -> list[str]:
        return [] if Done in kinds else ["1", "2"] if Soaking in kinds else []

    async def owned_by(self, side: Side) -> list[str]:
        return ["1", "2"] if side is Side.TARGET else []


async def test_unexplained_money_blocks_done() -> None:
    async def unexplained() -> Collection[str]:
        return {"2", "7"}

    missing = cast(Any, None)
    conductor = Conductor(
        contract=missing,
        tenants=("1", "2"),
        engines={},
        control_dsn="",
        gate=missing,
        routes=missing,
        control=cast(Any, Moved()),
        probe=missing,
        unexplained=unexplained,
        losses=missing,
    )
    with pytest.raises(NeedsOperator, match="the money of 1 tenants of cohort rest is not explained"):
        await conductor._finish("rest", ["1", "2"])
