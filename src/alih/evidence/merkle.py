"""The tree hash of RFC 6962, section 2.1, grown leaf by leaf.

Only the roots of the full subtrees are kept, one for each bit of the size, so that hashing goes on where it stopped.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Self

_LEAF, _NODE = b"\x00", b"\x01"


def leaf_hash(content: bytes) -> bytes:
    """SHA-256 of a leaf. Its first byte tells it from a node's, so that no node can pass for a leaf."""
    return hashlib.sha256(_LEAF + content).digest()


def _node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(_NODE + left + right).digest()


@dataclass(slots=True)
class Tree:
    """A tree over `size` leaves; `peaks` are its full subtrees' roots, the largest first."""

    size: int = 0
    peaks: list[bytes] = field(default_factory=list)

    @classmethod
    def resumed(cls, size: int, peaks: Sequence[bytes]) -> Self:
        return cls(size, list(peaks))

    def extend(self, hashes: Iterable[bytes]) -> None:
        """Append leaves, given by their hashes."""
        for hashed in hashes:
            self._append(hashed)

    def _append(self, hashed: bytes) -> None:
        full = self.size  # each low bit set is a subtree as large as the one just made: they become one
        while full & 1:
            hashed = _node_hash(self.peaks.pop(), hashed)
            full >>= 1
        self.peaks.append(hashed)
        self.size += 1

    @property
    def root(self) -> bytes:
        """The tree's hash, 32 bytes. Of no leaves: SHA-256 of nothing."""
        if not self.peaks:
            return hashlib.sha256().digest()
        *rest, root = self.peaks
        for peak in reversed(rest):
            root = _node_hash(peak, root)
        return root
