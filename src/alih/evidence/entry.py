"""An entry of the evidence, and the leaf that it becomes.

A leaf is the RFC 8785 form of {"n", "kind", "at", the facts, "commitments"}. What could lead to a person (an order's
id, a provider's reference) is a secret: the leaf holds only SHA-256(salt || value), so that the value can be shown to
whoever may see it, and is gone for good with its salt.
"""

import hashlib
import json
import secrets as randomness
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from alih.evidence.canonical import Json, canonical

SALT_BYTES = 16
_OWN = frozenset({"n", "kind", "at", "commitments"})


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that happened. `facts` stand openly; a fact refers to a secret by "@" and its name.

    Money is integer rupiah, durations integer ms (µs where the name ends in `_us`). Raises TypeError or ValueError
    where it is made if it could not become a leaf: it must not fail later, in the sequencer.
    """

    kind: str
    facts: Mapping[str, Json]
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if taken := _OWN & self.facts.keys():
            raise ValueError(f"facts of {self.kind} are called {', '.join(sorted(taken))}: a leaf says that itself")
        self.encode()

    def encode(self) -> str:
        """As the outbox stores it. Control characters are escaped, so PostgreSQL's text can hold any of it."""
        return canonical({"kind": self.kind, "facts": self.facts, "secrets": self.secrets}).decode()

    @classmethod
    def decode(cls, stored: str) -> "Entry":
        return cls(**json.loads(stored))


@dataclass(frozen=True, slots=True)
class Opening:
    """What a commitment was made of."""

    salt: bytes = field(repr=False)
    value: str = field(repr=False)

    @property
    def commitment(self) -> str:
        return hashlib.sha256(self.salt + self.value.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Leaf:
    """An entry with its number. Only `content` is hashed into the tree."""

    number: int
    content: bytes
    openings: Mapping[str, Opening] = field(repr=False)


def leaf(number: int, at: datetime, entry: Entry) -> Leaf:
    """The leaf of an entry; each secret gets a salt of its own, so equal values do not show."""
    openings = {name: Opening(randomness.token_bytes(SALT_BYTES), value) for name, value in entry.secrets.items()}
    said: dict[str, Json] = {"n": number, "kind": entry.kind, "at": stamp(at), **entry.facts}
    if openings:
        said["commitments"] = {name: opening.commitment for name, opening in openings.items()}
    return Leaf(number, canonical(said), openings)


def stamp(at: datetime) -> str:
    """A moment as evidence writes it: UTC, milliseconds (cut, not rounded), `Z`."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
