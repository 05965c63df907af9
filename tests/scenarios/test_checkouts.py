"""Thousands of checkouts while ten cohorts move and the provider errs: nothing is lost, nothing is done twice.

The same story is told in `tests/demo/test_story.py` with 300 checkouts.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest

from alih.config import Environment
from demo.story.ending import failures, result
from demo.story.screen import View
from demo.story.story import FAULTS, Script, tell
from demo.story.world import World, started
from tests.support.story_contract import TRIED, write_contract

pytestmark = [pytest.mark.anyio, pytest.mark.long]

SHOPS, ORDERS = 63, 5_000


async def test_five_thousand_checkouts() -> None:
    with TemporaryDirectory(prefix="alih-") as directory:  # a short path, for the sockets in it
        await _told(Path(directory))


async def _told(out: Path) -> None:
    print(f"seed {FAULTS['seed']}")  # noqa: T201 - pytest shows it with a failure
    contract = out / "alih.yaml"
    script = Script(
        shops=SHOPS,
        past_orders=1_000,
        rate=90.0,
        least_orders=ORDERS,
        cohorts=write_contract(contract, shops=SHOPS, cohorts=10),
        tried=TRIED,
        hold_p99_ms=5_000.0,
    )
    async with started(out, Environment.of_process().variables, contract) as world:
        ending = await tell(world, View(), out, script)
        figures = result(ending)
        assert failures(ending, figures) == []
        assert figures["orders"]["told"] == figures["orders"]["recorded"] >= ORDERS
        assert (figures["charges"]["doubled"], figures["charges"]["unaccounted_idr"]) == (0, 0)
        assert figures["refunds"]["told"] == figures["refunds"]["recorded"] > 0
        assert (figures["money"]["unexplained"], figures["money"]["open"]) == (0, 0)
        assert await doubled_effects(world) == []


async def doubled_effects(world: World) -> list[object]:
    """Orders that money came in for, or a refund that went out, more than once, on either side."""
    found: list[object] = []
    for store, query in (
        ("legacy", "SELECT order_id, event, refund_id FROM ledger WHERE account = 'CLEARING'"),
        ("marketplace", "SELECT order_id, event, refund_id FROM journal_entries WHERE account = 1100"),
    ):
        async with await psycopg.AsyncConnection.connect(world.dsns[store]) as connection:
            grouped = f"{query} GROUP BY 1, 2, 3 HAVING count(*) > 1"
            found += await (await connection.execute(grouped.encode())).fetchall()
    return found
