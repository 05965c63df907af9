"""A small migration as it stands in evidence: twelve shops in three cohorts, written by hand and by a seed."""

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from alih.evidence.bundle import Bundle, compose
from alih.evidence.entry import Entry, Leaf, leaf
from alih.evidence.merkle import Tree, leaf_hash
from alih.evidence.note import Checkpoint, SigningKey
from alih.proof.score import score

RULES = Path(__file__).parents[3] / "rules" / "id" / "rules.yaml"
KEY = SigningKey("shop-to-marketplace", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
COHORTS = {"first": ["1"], "tenth": ["2", "3", "4"], "rest": [str(shop) for shop in range(5, 13)]}
TESTED = {"first": "97", "tenth": "98", "rest": "99"}
STEPS = ("promotion", "shop_tab", "product", "cart", "order", "pay", "paid", "invoice", "refund", "refunded")
CHECKS = ("steps", "price", "invoice", "hosts", "payee", "ledger", "provider", "refund")
BEGIN = datetime(2026, 11, 24, 1, 0, tzinfo=UTC)
PHASES = ("tracked", "holding", "drained", "fenced", "caughtup", "flipped", "opened", "soaking")


class Story:
    """Entries in the order in which they are told; each comes `step` after the one before."""

    def __init__(self, *, seed: int = 7, step: timedelta = timedelta(milliseconds=731)) -> None:
        self.leaves: list[Leaf] = []
        self._at = BEGIN
        self._step = step
        self._random = random.Random(seed)
        self._epochs: dict[str, int] = {}

    def tell(self, kind: str, secrets: Mapping[str, str] | None = None, /, **facts: Any) -> int:
        self._at += self._step
        self.leaves.append(leaf(len(self.leaves), self._at, Entry(kind, facts, secrets or {})))
        return len(self.leaves) - 1

    def pause(self, pause: timedelta) -> None:
        self._at += pause

    def begin(self, public_key: str, deadline: str | None = None) -> None:
        given = yaml.safe_load(RULES.read_text(encoding="utf-8"))
        self.tell(
            "migration",
            name="shop-to-marketplace",
            contract_sha256=hashlib.sha256(b"a contract").hexdigest(),
            tenants=COHORTS,
            test_tenants=TESTED,
            payees={"source": "social", "target": "marketplace"},
            public_key=public_key,
        )
        self.tell("rules", weights=given["weights"], articles=given["articles"], deadline=deadline)

    def move(self, cohort: str, shops: Sequence[str], *, by: str = "sri") -> None:
        self.tell("approval", command="cutover", argument=cohort, by=by)
        for shop in shops:
            epoch = self._epochs[shop] = self._epochs.get(shop, 0) + 1
            for phase in PHASES:
                side = "target" if PHASES.index(phase) >= PHASES.index("flipped") else "source"
                cut = "0/1A2B3C4" if phase in {"fenced", "caughtup"} else None
                self.tell("state", tenant=shop, phase=phase, epoch=epoch, side=side, cut=cut)
        self.tell("answer", command="cutover", argument=cohort, exit_code=0, moved=len(shops), aborted=[])

    def compare(self, rows: int, findings: int = 0, direction: str = "forward") -> None:
        position = "0/1A2B3C4"
        facts = {"scope": "all", "rows": rows, "findings": findings, "undecided": 0}
        self.tell("verification", **facts, position=position, direction=direction)

    def buy(self, cohort: str, moment: str, failing: Mapping[str, str] | None = None) -> int:
        side = "target" if moment == "after" else "source"
        amount = 25_000 + 1_000 * self._random.randrange(200)
        times = [self._random.randrange(6, 90) for _ in STEPS]
        reasons = failing or {}
        return self.tell(
            "trial",
            {"sale": f"ORDER-{self._random.randrange(10**6)}"},
            tenant=TESTED[cohort],
            cohort=cohort,
            moment=moment,
            passed=not reasons,
            side=side,
            epoch=0 if side == "source" else 1,
            steps=[{"name": name, "ms": ms, "status": 200} for name, ms in zip(STEPS, times, strict=True)],
            checks=[{"name": name, "passed": name not in reasons, "why": reasons.get(name)} for name in CHECKS],
            amounts=dict.fromkeys(("shown", "ordered", "charged", "settled", "refunded"), amount),
            payee="marketplace" if side == "target" else "social",
            hosts=["shop.example:8443"],
            tab_ms=times[1] + 20 * (moment == "during"),
        )

    def reconcile(self, days: int = 3, unexplained: int = 0, claims: int = 2) -> None:
        lines = [self._line(payee, shop, day) for payee in ("marketplace", "social") for shop in ("1", "2", "97")
                 for day in range(1, days + 1)]  # fmt: skip
        sums = [line for line in lines if not line["test"]]
        names: tuple[str, ...] = ("orders_idr", "charges_idr", "provider_idr", "refunds_idr", "books_idr", "sales")
        claimed = [
            {"tenant": str(shop), "day": "2026-11-24", "from_payee": "social", "to_payee": "marketplace"}
            | {"amount_idr": 125_000 * shop, "sales": shop}
            for shop in range(1, claims + 1)
        ]
        self.tell(
            "reconciliation",
            {f"u{place}": f"ORDER-{place}" for place in range(unexplained)},
            zone="Asia/Jakarta",
            lines=lines,
            claims=claimed,
            open={"sales": 1, "amount_idr": 84_000},
            unexplained=[
                {"payee": "marketplace", "tenant": "2", "day": "2026-11-24", "what": "charge and provider differ"}
                | {"amount_idr": 1, "sale": f"@u{place}"}
                for place in range(unexplained)
            ],
            totals={name: sum(line[name] for line in sums) for name in names},
            earlier=dict.fromkeys(names, 0) | {"sales": 20_000, "charges_idr": 2_713_450_000},
        )

    def _line(self, payee: str, shop: str, day: int) -> dict[str, Any]:
        sales = self._random.randrange(1, 40)
        charged = sales * 1_000 * self._random.randrange(20, 400)
        refunded = charged // 10
        same = dict.fromkeys(("orders_idr", "charges_idr", "provider_idr"), charged)
        date = f"2026-11-{day:02}"
        return {"payee": payee, "tenant": shop, "day": date, **same, "refunds_idr": refunded,
                "books_idr": charged - refunded, "sales": sales, "test": shop in TESTED.values()}  # fmt: skip

    def audit(self, sampled: int = 14, missing: Mapping[int, Sequence[str]] | None = None) -> None:
        gaps = missing or {}
        sales = [
            {"sale": f"@s{place}", "tenant": str(place % 12 + 1), "side": "target", "epoch": 1}
            | {"proven": place not in gaps, "missing": list(gaps.get(place, ()))}
            for place in range(1, sampled + 1)
        ]
        secrets = {f"s{place}": f"ORDER-{place}" for place in range(1, sampled + 1)}
        self.tell("audit", secrets, sampled=sampled, proven=sampled - len(gaps), seed=42, population=436, sales=sales)

    def refuse(self, reason: str) -> None:
        self.tell("notice_refused", reason=reason, tenant="2", sha256="0" * 64, bytes=211)

    def notices(self) -> None:
        self.tell("notices", kept=873, delivered=873, repeated=112, refused=4, undelivered=0, waiting=0)

    def text(self) -> str:
        """The bundle file."""
        tree = Tree()
        tree.extend(leaf_hash(each.content) for each in self.leaves)
        return compose(self.leaves, KEY.sign(Checkpoint("shop-to-marketplace", tree.size, tree.root)))

    def bundle(self) -> Bundle:
        return Bundle.read(self.text())


def told(*, failing: bool = False, deadline: str | None = "2026-11-24T08:30:00+07:00") -> Story:
    """The whole move. With `failing` some of it goes wrong, and nothing is hidden."""
    story = Story()
    story.begin(KEY.vkey, deadline)
    _score(story)
    for cohort, shops in COHORTS.items():
        for _ in range(4):
            story.buy(cohort, "before")
        story.pause(timedelta(minutes=4))
        story.move(cohort, [*shops, TESTED[cohort]])
        story.buy(cohort, "during")
        for _ in range(3):
            story.buy(cohort, "after")
        story.reconcile()
        story.compare(153_322, direction="reverse")
        _score(story)
    story.move("shared", ["@shared"])
    _score(story)
    if failing:
        story.buy("tenth", "after", {"price": "shown 25000, ordered 25001, charged 25001, settled 25001"})
        story.tell("finding", source="trial", what="price: shown 25000, ordered 25001", tenant="98")
        story.refuse("bad_signature")
        story.refuse("bad_signature")
        story.refuse("too_large")
    story.reconcile(days=20 if failing else 2, unexplained=2 if failing else 0)
    story.audit(missing={3: ["ledger", "invoice"]} if failing else None)
    story.notices()
    _score(story)
    return story


def _score(story: Story) -> None:
    told_so_far = [json.loads(each.content) for each in story.leaves]
    story.tell("score", **score(told_so_far).facts())
