"""The entries of a bundle, asked for what a report needs: the last of a kind, who owns what, when it moved."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from alih.errors import Refused

SHARED = "@shared"
"""The name under which the shared rows move, as if they were one tenant."""

Entry = Mapping[str, Any]
Items = Sequence[Entry]


@dataclass(frozen=True)
class Log:
    """Parsed leaves in their order."""

    entries: Items

    def of(self, kind: str) -> Items:
        """All entries of a kind, oldest first."""
        return self._by_kind.get(kind, ())

    def last(self, kind: str) -> Entry | None:
        entries = self.of(kind)
        return entries[-1] if entries else None

    @property
    def migration(self) -> Entry:
        """What is moved. Raises Refused for a log that does not say."""
        if entry := self.last("migration"):
            return entry
        raise Refused(
            "the bundle has no entry of kind migration: nothing says what is moved",
            remedy="start alih serve once, then export the evidence anew",
        )

    @cached_property
    def cohorts(self) -> Mapping[str, Sequence[str]]:
        """Cohort → its tenants, without test tenants; in the order in which they moved."""
        cohorts: Mapping[str, Sequence[str]] = self.migration["tenants"]
        return dict(sorted(cohorts.items(), key=lambda cohort: self._first_arrival(cohort[1])))

    @property
    def tenants(self) -> frozenset[str]:
        return frozenset(tenant for tenants in self.cohorts.values() for tenant in tenants)

    @property
    def test_cohorts(self) -> Sequence[str]:
        """The cohorts in which purchases are tried."""
        tested = self.migration["test_tenants"]
        known = [cohort for cohort in self.cohorts if cohort in tested]
        return [*known, *(cohort for cohort in tested if cohort not in known)]

    @cached_property
    def owners(self) -> Mapping[str, str]:
        """Tenant → the side that owned it last. A tenant without a `state` is the source's."""
        return {entry["tenant"]: entry["side"] for entry in self.of("state")}

    def moved(self, tenants: Iterable[str]) -> int:
        """How many of these the target owns."""
        return sum(self.owners.get(tenant) == "target" for tenant in tenants)

    def arrivals(self, tenants: Iterable[str]) -> Items:
        """The flips to the target of these, in order."""
        asked = frozenset(tenants)
        return [entry for entry in self._arrivals if entry["tenant"] in asked]

    def _first_arrival(self, tenants: Iterable[str]) -> int:
        arrivals = self.arrivals(tenants)
        return int(arrivals[0]["n"]) if arrivals else len(self.entries)

    @cached_property
    def _arrivals(self) -> Items:
        return [entry for entry in self.of("state") if entry["phase"] == "flipped" and entry["side"] == "target"]

    @cached_property
    def _by_kind(self) -> Mapping[str, Items]:
        kinds: dict[str, list[Entry]] = defaultdict(list)
        for entry in self.entries:
            kinds[entry["kind"]].append(entry)
        return kinds
