"""The shape of the front end's calls: names and types of everything sent and received, never a value.

A `Shape` is what many samples of one call have in common. A list that was always empty says nothing about its
items, so what lies under it is unknown and matches anything; all else has to match, name for name.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

DECIMAL = re.compile(r"-?\d+\.\d\d")
# How a message is framed and when it was sent belongs to the connection, not to the call.
OF_THE_CONNECTION = frozenset({"connection", "content-length", "date", "keep-alive", "transfer-encoding"})


def kind(value: object) -> str:
    """The JSON type of `value`; money as text ("145000.00") is a type of its own, since front ends parse it."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "integer"
        case float():
            return "number"
        case str():
            return "decimal" if DECIMAL.fullmatch(value) else "string"
        case list():
            return "array"
        case _:
            return "object"


@dataclass(frozen=True, slots=True)
class Place:
    """One value seen: its path, the path of what holds it, its type."""

    path: str
    parent: str
    kind: str


def outline(value: Any, path: str = "", parent: str = "") -> Iterator[Place]:
    """Every place in a JSON document, parents first, keys in order."""
    yield Place(path, parent, kind(value))
    if isinstance(value, dict):
        for key in sorted(value):
            yield from outline(value[key], f"{path}.{key}" if path else key, path)
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
        for place in outline(document):
            seen = self.seen.setdefault(place.path, Seen(place.parent))
            seen.kinds.add(place.kind)
            seen.times += 1
            seen.objects += place.kind == "object"

    def canonical(self) -> dict[str, dict[str, Any]]:
        """Path → its types and whether it was always there, in one order for all."""
        return {path: {"always": self.always(path), "types": sorted(self.seen[path].kinds)} for path in self.paths()}

    def paths(self) -> list[str]:
        return sorted(self.seen)

    def always(self, path: str) -> bool:
        """Whether each object that could hold this key did (an item of a list never has to be there)."""
        seen = self.seen[path]
        return path == "" or (not path.endswith("[]") and seen.times == self.seen[seen.parent].objects)

    def differences(self, other: "Shape") -> Iterator[str]:
        """What `other` has more, less or otherwise than this one."""
        for path in sorted(self.seen.keys() | other.seen.keys()):
            parent = (self.seen.get(path) or other.seen[path]).parent
            if self.can_tell(path, parent) and other.can_tell(path, parent):
                yield from self._difference(path, other)

    def can_tell(self, path: str, parent: str) -> bool:
        """Whether the samples show if `path` exists: it was seen, or an object that could hold it was."""
        holder = self.seen.get(parent)
        return path in self.seen or (not path.endswith("[]") and holder is not None and holder.objects > 0)

    def _difference(self, path: str, other: "Shape") -> Iterator[str]:
        if path not in other.seen:
            yield f"{path} is missing"
        elif path not in self.seen:
            yield f"{path} is additional"
        elif self.always(path) and not other.always(path):
            yield f"{path} is missing at times"
        else:
            yield from self._other_type(path, self.seen[path].kinds, other.seen[path].kinds)

    @staticmethod
    def _other_type(path: str, here: set[str], there: set[str]) -> Iterator[str]:
        # A null that did not come up again is no change; a null where there never was one is.
        if there != here and there != here - {"null"}:
            yield f"{path} is {' or '.join(sorted(there))}, was {' or '.join(sorted(here))}"


Recordings = Mapping[str, Mapping[str, Shape]]
"""Phase label → call ("POST /api/… → 201") → shape; the first label is what the others are held against."""


class Recorder:
    """Collects the shape of every call, apart for each phase of the story."""

    def __init__(self) -> None:
        self.recordings: dict[str, dict[str, Shape]] = {}

    def add(self, label: str, call: str, document: Any) -> str:
        """Take a call in; its own shape comes back as a short digest for the diary."""
        self.recordings.setdefault(label, defaultdict(Shape))[call].add(document)
        places = sorted({(place.path, place.kind) for place in outline(document)})
        return sha256(json.dumps(places).encode()).hexdigest()[:12]


def header_names(headers: Mapping[str, str]) -> dict[str, str]:
    """Header names in lower case without those of the connection; a content type counts with its value."""
    names = {name.lower(): value for name, value in headers.items() if name.lower() not in OF_THE_CONNECTION}
    content_type = names.pop("content-type", None)
    return dict.fromkeys(names, "") | ({f"content-type: {content_type}": ""} if content_type else {})


def canonical(recording: Mapping[str, Shape]) -> bytes:
    """One phase's recording as canonical JSON: equal shapes are equal bytes."""
    document = {call: shape.canonical() for call, shape in recording.items()}
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def compare_shapes(recordings: Recordings) -> list[str]:
    """Every difference between the first phase's calls and each later one's; empty means identical in shape."""
    labels = list(recordings)
    return [
        f"{label}: {difference}"
        for label in labels[1:]
        for difference in _between(recordings[labels[0]], recordings[label])
    ]


def _between(first: Mapping[str, Shape], later: Mapping[str, Shape]) -> Iterator[str]:
    for call in sorted(first.keys() | later.keys()):
        if call in first and call in later:
            yield from (f"{call}: {difference}" for difference in first[call].differences(later[call]))
        elif _succeeded(call):
            yield f"{call}: {'never seen again' if call in first else 'never seen before'}"


def _succeeded(call: str) -> bool:
    """Refusals come up when they come up; a success that is new or gone is a change."""
    return call.rpartition(" ")[2] < "400"
