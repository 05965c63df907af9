"""The shape of the front end's calls: names and types of everything sent and received, never a value.

A `Shape` is what many samples of one call have in common. A list that was always empty says nothing about its
items, so what lies under it is unknown and matches anything; all else has to match, name for name.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

DECIMAL = re.compile(r"-?\d+\.\d\d")
KINDS = {type(None): "null", bool: "boolean", int: "integer", float: "number", str: "string", list: "array"}
# How a message is framed and when it was sent belongs to the connection, not to the call.
OF_THE_CONNECTION = frozenset({"connection", "content-length", "date", "keep-alive", "transfer-encoding"})


def kind(value: object) -> str:
    """The JSON type of `value`; money as text ("145000.00") is a type of its own, since front ends parse it."""
    if isinstance(value, str) and DECIMAL.fullmatch(value):
        return "decimal"
    return KINDS.get(type(value), "object")


def outline(value: Any, path: str = "", parent: str = "") -> Iterator[tuple[str, str, str]]:
    """Every place in a JSON document: its path, the path of what holds it, its type."""
    yield path, parent, kind(value)
    if isinstance(value, dict):
        for key, held in value.items():
            yield from outline(held, f"{path}.{key}" if path else key, path)
    elif isinstance(value, list):
        for item in value:
            yield from outline(item, f"{path}[]", path)


@dataclass(slots=True)
class Seen:
    """What the samples held at one path."""

    parent: str
    kinds: set[str] = field(default_factory=set)
    times: int = 0
    objects: int = 0


class Shape:
    """What all samples of one call have in common."""

    def __init__(self) -> None:
        self.seen: dict[str, Seen] = {}

    def add(self, document: Any) -> None:
        """Take one more sample in."""
        for path, parent, of_kind in outline(document):
            seen = self.seen.setdefault(path, Seen(parent))
            seen.kinds.add(of_kind)
            seen.times += 1
            seen.objects += of_kind == "object"

    def differences(self, later: "Shape") -> Iterator[str]:
        """What `later` has more, less or otherwise than this one."""
        for path in sorted(self.seen.keys() | later.seen.keys()):
            parent = (self.seen.get(path) or later.seen[path]).parent
            if self.can_tell(path, parent) and later.can_tell(path, parent):
                yield from self._difference(path, later)

    def can_tell(self, path: str, parent: str) -> bool:
        """Whether the samples show if `path` exists: it was seen, or an object that could hold it was."""
        holder = self.seen.get(parent)
        return path in self.seen or (not path.endswith("[]") and holder is not None and holder.objects > 0)

    def always(self, path: str) -> bool:
        """Whether each object that could hold this key did (an item of a list never has to be there)."""
        seen = self.seen[path]
        return path == "" or (not path.endswith("[]") and seen.times == self.seen[seen.parent].objects)

    def _difference(self, path: str, later: "Shape") -> Iterator[str]:
        if path not in later.seen:
            yield f"{path} is missing"
        elif path not in self.seen:
            yield f"{path} is additional"
        elif self.always(path) and not later.always(path):
            yield f"{path} is missing at times"
        else:
            was, now = self.seen[path].kinds, later.seen[path].kinds
            # A null that did not come up again is no change; a null where there never was one is.
            if now not in (was, was - {"null"}):
                yield f"{path} is {' or '.join(sorted(now))}, was {' or '.join(sorted(was))}"


Recordings = Mapping[str, Mapping[str, Shape]]
"""Phase label → call ("POST /api/… → 201") → shape; the first label is what the others are held against."""


def header_names(headers: Mapping[str, str]) -> dict[str, str]:
    """Header names in lower case without those of the connection; a content type counts with its value."""
    names = {name.lower(): value for name, value in headers.items() if name.lower() not in OF_THE_CONNECTION}
    content_type = names.pop("content-type", None)
    return dict.fromkeys(names, "") | ({f"content-type: {content_type}": ""} if content_type else {})


def compare_shapes(recordings: Recordings) -> list[str]:
    """Every difference between the first phase's calls and each later one's; empty means identical in shape."""
    first, *later = recordings
    return [
        f"{label}: {difference}" for label in later for difference in _between(recordings[first], recordings[label])
    ]


def _between(first: Mapping[str, Shape], later: Mapping[str, Shape]) -> Iterator[str]:
    for call in sorted(first.keys() | later.keys()):
        if call in first and call in later:
            yield from (f"{call}: {difference}" for difference in first[call].differences(later[call]))
        elif call.rpartition(" ")[2] < "400":  # refusals come up when they come up
            yield f"{call}: {'never seen again' if call in first else 'never seen before'}"
