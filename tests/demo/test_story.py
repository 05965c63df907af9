"""The demo's own end can fail: a small story is told for real, and what is planted in it is named, and nothing else."""

import asyncio
import io
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import pytest
from rich.console import Console

from alih.config import Environment
from alih.evidence.bundle import Bundle
from alih.proof.score import score
from demo import audit
from demo.seed.legacy import FIRST_ID
from demo.shoppers import Shoppers
from demo.story.ending import conclude, result
from demo.story.proof import BUNDLE, LANGUAGES
from demo.story.screen import View
from demo.story.story import FAULTS, Ending, Script, tell
from demo.story.world import World, started
from tests.support.little_shop import LittleShop, serving
from tests.support.story_contract import TRIED, write_contract
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

SHOPS = 33


@dataclass(frozen=True)
class Told:
    """A story that has been told, its databases still there."""

    world: World
    ending: Ending
    opening: audit.Opening
    out: Path

    async def audited(self, diary: str = "diary.jsonl") -> Ending:
        """The same ending, audited again."""
        tests = [str(shop) for shop in range(FIRST_ID + SHOPS - 3, FIRST_ID + SHOPS)]
        again = await audit.audit(self.out / diary, self.world.stores, self.opening, test_shops=tests)
        return replace(self.ending, audit=again)

    def said(self, ending: Ending) -> tuple[int, list[str]]:
        """The exit code, and what was named as not as promised."""
        screen = io.StringIO()
        code = conclude(ending, self.out, Console(file=screen, width=400))
        marked = [line for line in screen.getvalue().splitlines() if line.startswith("NOT AS PROMISED")]
        return code, [line.removeprefix("NOT AS PROMISED  ") for line in marked]


async def _write_on_the_losing_side(world: World) -> None:
    """An administrator writes a moved shop's row at the source, past the fence."""
    with psycopg.connect(world.admins["legacy"]) as connection:
        connection.execute("ALTER TABLE stock DISABLE TRIGGER alih_fence")
        connection.execute("UPDATE stock SET on_hand = on_hand WHERE product_id = (SELECT min(product_id) FROM stock)")
        connection.execute("ALTER TABLE stock ENABLE ALWAYS TRIGGER alih_fence")


@pytest.fixture(scope="module")
async def told() -> AsyncIterator[Told]:
    with TemporaryDirectory(prefix="alih-") as directory:  # a short path, for the sockets in it
        async with _told(Path(directory)) as told:
            yield told


@asynccontextmanager
async def _told(out: Path) -> AsyncIterator[Told]:
    # Other tests may keep the machine busy: the hold's bound is the hold budget here, not the demo's.
    contract = out / "alih.yaml"
    script = Script(
        shops=SHOPS,
        past_orders=300,
        rate=60.0,
        still_s=3.0,
        least_requests=500,
        least_orders=300,
        audited=200,
        cohorts=write_contract(contract, shops=SHOPS, cohorts=10),
        tried=TRIED,
        faults=FAULTS,
        hold_p99_ms=5_000.0,
        closing=_write_on_the_losing_side,
    )
    async with started(out, Environment.of_process().variables, contract) as world:
        ending = await tell(world, View(), out, script)
        yield Told(world, ending, audit.Opening.load(out / "opening.json"), out)


async def test_only_the_write_on_the_losing_side_is_named(told: Told) -> None:
    code, named = told.said(told.ending)
    assert (code, named) == (1, ["stray write forward: forward: 1 writes on the side that does not own the tenant"])
    figures = result(told.ending)
    assert figures["stray_writes"] == 1
    assert figures["tenants"] == {"total": SHOPS, "moved": SHOPS}
    assert figures["hosts_visited"] == 1
    assert figures["requests"]["failed"] == 0


async def test_money_sales_and_evidence_hold(told: Told) -> None:
    figures = result(told.ending)
    assert (figures["orders"]["lost"], figures["orders"]["doubled"]) == (0, 0)
    assert figures["orders"]["told"] >= 300
    assert (figures["charges"]["doubled"], figures["charges"]["unaccounted_idr"]) == (0, 0)
    assert figures["refunds"]["told"] == figures["refunds"]["recorded"] > 0
    assert figures["audit"] == {"sampled": 200, "proven": 200}
    assert figures["trials"]["run"] == figures["trials"]["passed"] >= 6
    assert (figures["money"]["unexplained"], figures["evidence"]["verified"]) == (0, True)


async def test_the_score_is_what_anybody_computes_by_hand(told: Told) -> None:
    """30 shops count, 3 test shops do not. After two cohorts 1 + 3 of them have moved, and 1 of 3 test shops."""
    moved, tried = Fraction(4, 30), Fraction(1, 3)
    by_hand = 60 * (moved + tried) / 2 + 20 * (moved + 0) / 2 + 20 * moved
    scores = [score["total"] for score in told.ending.proof.scores]
    assert (scores[0], scores[2], scores[-1]) == ("0.00", f"{float(by_hand):.2f}", "100.00")


async def test_withholding_one_trial_lowers_the_score(told: Told) -> None:
    entries = Bundle.read(told.out / BUNDLE).entries
    last = [
        n for n, e in enumerate(entries) if (e["kind"], e.get("cohort"), e.get("moment")) == ("trial", "rest", "after")
    ]
    assert score(entries).total == 100
    assert score([e for n, e in enumerate(entries) if n not in last]).total == 90


async def test_a_stranger_recomputes_every_figure_of_the_report(told: Told) -> None:
    """With a script that imports nothing of alih, in a process of its own."""
    for language in LANGUAGES:
        script = Path(__file__).parent.parent / "support" / "recompute.py"
        argv = [sys.executable, "-I", str(script), str(told.out / BUNDLE), str(told.out / f"report-{language}.html")]
        process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
        said, _ = await process.communicate()
        assert (process.returncode, language) == (0, language), said.decode()


async def test_without_it_the_demo_ends_with_0(told: Told) -> None:
    assert told.said(await told.audited()) == (0, [])


async def test_a_deleted_order_is_named(told: Told) -> None:
    with psycopg.connect(told.world.admins["marketplace"], autocommit=True) as connection:
        connection.execute("SET session_replication_role = replica")
        (order_id,) = connection.execute(
            "SELECT max(order_id) FROM trade_orders WHERE channel = 'social'"
        ).fetchone() or (None,)
        connection.execute("CREATE TABLE kept AS SELECT * FROM trade_orders WHERE order_id = %s", (order_id,))
        connection.execute("ALTER TABLE trade_orders DISABLE TRIGGER alih_fence")
        connection.execute("DELETE FROM trade_orders WHERE order_id = %s", (order_id,))
        try:
            code, named = told.said(await told.audited())
        finally:
            connection.execute("INSERT INTO trade_orders SELECT * FROM kept")
            connection.execute("DROP TABLE kept")
            connection.execute("ALTER TABLE trade_orders ENABLE ALWAYS TRIGGER alih_fence")
    assert code == 1
    assert [line for line in named if line.startswith(f"order lost {order_id}:")] != []


async def test_a_doubled_charge_is_named(told: Told) -> None:
    with psycopg.connect(told.world.dsns["provider"], autocommit=True) as connection:
        connection.execute(
            "INSERT INTO charges (order_id, account, payment_type, gross_amount, transaction_status, settlement_time)"
            " SELECT order_id || '-again', account, payment_type, gross_amount, 'settlement', now() FROM charges"
            " WHERE transaction_status = 'settlement' ORDER BY order_id LIMIT 1"
        )
        try:
            code, named = told.said(await told.audited())
        finally:
            connection.execute("DELETE FROM charges WHERE order_id LIKE '%-again'")
    assert code == 1
    assert [line for line in named if line.startswith("charge doubled")] != []


async def test_a_redirect_to_another_host_is_named(told: Told) -> None:
    """One more shopper comes, through a gateway whose promotion link leads elsewhere."""
    leave = asyncio.Event()
    async with serving(LittleShop(promo_target="http://other.example/")) as url, asyncio.TaskGroup() as group:
        led_away = Shoppers(url, ["1000000001"], ["1000000101"], rate=400, seed=7, diary_path=told.out / "late.jsonl")
        group.create_task(led_away.run(leave))
        await until(lambda: led_away.live().failed >= 1)
        leave.set()
    both = "".join((told.out / name).read_text(encoding="utf-8") for name in ("diary.jsonl", "late.jsonl"))
    (told.out / "both.jsonl").write_text(both, encoding="utf-8")
    code, named = told.said(await told.audited("both.jsonl"))
    assert code == 1
    assert "host other.example: named by a redirect of GET /p/{promo}" in named
