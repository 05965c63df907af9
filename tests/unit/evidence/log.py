"""A log in memory, as the control database would hold one: entries, bundles of it at any size, its key."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from alih.evidence.bundle import compose
from alih.evidence.canonical import Json
from alih.evidence.entry import Entry, Leaf, leaf
from alih.evidence.merkle import Tree, leaf_hash
from alih.evidence.note import Checkpoint, SigningKey

ORIGIN = "alih/small-world"
_START = datetime(2026, 11, 24, 1, 2, 3, 456_000, tzinfo=UTC)


@dataclass(slots=True)
class Log:
    key: SigningKey
    leaves: list[Leaf] = field(default_factory=list)

    @classmethod
    def of(cls, directory: Path, name: str = ORIGIN) -> "Log":
        return cls(SigningKey.load_or_make(directory / "evidence.key", name))

    def grow(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            number = len(self.leaves)
            self.leaves.append(leaf(number, _START + timedelta(seconds=number), entry))

    def note(self, size: int | None = None) -> str:
        """The checkpoint at `size` entries; of all of them unless it is given."""
        tree = Tree()
        tree.extend(leaf_hash(leaf.content) for leaf in self.leaves[:size])
        return self.key.sign(Checkpoint(self.key.name, tree.size, tree.root))

    def bundle(self, size: int | None = None) -> str:
        return compose(self.leaves[:size], self.note(size))

    def until(self, size: int) -> "Log":
        """The same log as it was at `size` entries, to be grown otherwise."""
        return Log(self.key, self.leaves[:size])


def drawn(dice: random.Random, count: int) -> list[Entry]:
    """Entries of some kinds; every third has secrets."""
    return [_drawn(dice, number) for number in range(count)]


def _drawn(dice: random.Random, number: int) -> Entry:
    tenant = str(dice.randrange(10**9, 10**10))
    if number % 3:
        facts: dict[str, Json] = {
            "tenant": tenant,
            "phase": "holding",
            "epoch": dice.randrange(9),
            "side": "source",
            "cut": None,
        }
        return Entry("state", facts)
    sales = {f"s{i}": f"ORDER-{dice.randrange(10**9)}" for i in range(2)}
    checked: list[Json] = [{"sale": f"@{name}", "tenant": tenant, "proven": dice.random() < 0.5} for name in sales]
    return Entry("audit", {"sampled": 2, "seed": number, "toko": "Batik Ayu “asli” 😀", "sales": checked}, sales)
