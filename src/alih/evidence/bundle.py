"""The bundle: all evidence in one text file that needs neither alih nor its database.

JSON Lines, each line in the form of RFC 8785, each ended by a newline: a header, one line for each leaf with what its
commitments were made of, the signed checkpoint. What is withheld is said to be: its opening is null. So no byte of the
file can change without a verifier's notice.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from alih.errors import Corrupt, Refused
from alih.evidence.canonical import Json, canonical
from alih.evidence.entry import Leaf, Opening
from alih.evidence.merkle import Tree, leaf_hash
from alih.evidence.note import Checkpoint

VERSION = 1


def compose(leaves: Sequence[Leaf], note: str) -> str:
    """The bundle of all leaves under the signed `note`. Raises Corrupt if they are not the ones that it signs."""
    signed = Checkpoint.of(note)
    if _hashed(leaf.content for leaf in leaves) != (signed.size, signed.root):
        raise Corrupt(
            "the stored evidence is not what was signed",
            remedy="somebody has changed alih_control.leaf: compare it with a backup and with the last bundle",
        )
    header: Json = {"alih": "evidence bundle", "version": VERSION, "origin": signed.origin, "entries": signed.size}
    return "".join(f"{line}\n" for line in (_line(header), *map(_leaf_line, leaves), _line({"checkpoint": note})))


def _hashed(contents: Iterable[bytes]) -> tuple[int, bytes]:
    tree = Tree()
    tree.extend(map(leaf_hash, contents))
    return tree.size, tree.root


def _line(said: Json) -> str:
    return canonical(said).decode()


def _leaf_line(leaf: Leaf) -> str:
    said = json.loads(leaf.content)
    line: dict[str, Json] = {"leaf": said}
    if "commitments" in said:
        line["openings"] = {name: _shown(leaf.openings.get(name)) for name in said["commitments"]}
    return _line(line)


def _shown(opening: Opening | None) -> Json:
    return None if opening is None else {"salt": opening.salt.hex(), "value": opening.value}


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle as the report and the score read it: entries in order. Its signature is for `alih-verify` to check,
    which needs the key from elsewhere; `vkey` is only what the log says of itself."""

    entries: list[dict[str, Any]]
    checkpoint: str
    vkey: str | None

    @classmethod
    def read(cls, source: Path | str) -> Self:
        """The bundle in a file (Path) or a text. Raises Refused if it is none, is cut off, or if its entries are not
        those of its checkpoint."""
        text = source.read_text(encoding="utf-8") if isinstance(source, Path) else source
        try:
            header, *lines, last = map(json.loads, text.removesuffix("\n").split("\n"))
            found, note = [line["leaf"] for line in lines], last["checkpoint"]
            signed = Checkpoint.of(note)
            whole = header["alih"] == "evidence bundle" and header["version"] == VERSION
        except (ValueError, LookupError, TypeError, Corrupt):
            raise _unusable("is no evidence bundle, or was cut off") from None
        if not whole or _hashed(map(canonical, found)) != (signed.size, signed.root):
            raise _unusable("is not what its checkpoint signs")
        return cls(found, note, _own_key(found))


def _own_key(entries: Sequence[Mapping[str, Any]]) -> str | None:
    keys = [entry["public_key"] for entry in entries if entry["kind"] == "migration"]
    return keys[-1] if keys else None


def _unusable(what: str) -> Refused:
    return Refused(f"the file {what}", remedy="export it again with alih evidence export, and copy it whole")
