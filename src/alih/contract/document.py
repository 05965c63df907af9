"""The YAML of a contract as plain data that knows its lines.

A small, predictable YAML: plain scalars are numbers only as JSON writes them, booleans only as `true` and `false`
(`NO`, `on`, `012` and `12:30` stay text: order states look like that), no aliases, no tags, no key twice.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from alih.contract.problem import Problem, refused
from alih.errors import Refused
from alih.model.contract import Place

MAX_BYTES = 1_000_000
_MAX_DEPTH = 32

_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)")
_DECIMAL = re.compile(r"-?(0|[1-9][0-9]*)\.[0-9]+")
_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}

Data = str | int | float | bool | None | Mapping[str, "Data"] | Sequence["Data"]
Step = str | int


@dataclass(frozen=True, slots=True)
class Document:
    """`data` is what the file says; `lines` holds the line of each value by its path of keys and indexes."""

    file: str
    directory: Path
    data: Data
    text: str = field(repr=False)
    sha256: str
    lines: Mapping[tuple[Step, ...], int] = field(repr=False)

    def place(self, *path: Step) -> Place:
        """Where the value at `path` stands, or the nearest thing around it that exists."""
        known = path
        while known not in self.lines:
            known = known[:-1]
        return Place(file=self.file, line=self.lines[known], path=_dotted(path))


def _dotted(path: Sequence[Step]) -> str:
    text = "".join(f"[{s}]" if isinstance(s, int) else f".{s}" for s in path)
    return text.removeprefix(".") or "(whole file)"


def read(path: Path) -> Document:
    """The file at `path`. Refused: no file, too large, not UTF-8, no YAML, or YAML of the kinds named above."""
    return parsed(_text(path), path)


def parsed(text: str, path: Path) -> Document:
    """The same of a text that was in the file at `path`."""
    try:
        if any(isinstance(e, yaml.AliasEvent) for e in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise Refused(
                f"{path.name}: YAML aliases (*name) are not read", remedy="write the value out where it is used"
            )
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise Refused(
            f"{path.name}:{line}: no YAML: {error.problem}", remedy="correct the line or the one before it"
        ) from None
    except (yaml.reader.ReaderError, RecursionError):
        raise Refused(
            f"{path.name}: no YAML", remedy="save the file as UTF-8 text without control characters"
        ) from None
    if not isinstance(node, yaml.MappingNode):
        raise Refused(
            f"{path.name}:1: a contract is a mapping", remedy="begin with `migration: name`; `alih init` drafts one"
        )
    reader = _Reader(path.name)
    data = reader.value(node, ())
    if reader.problems:
        raise refused(reader.problems)
    return Document(
        file=path.name,
        directory=path.parent,
        data=data,
        text=text,
        sha256=hashlib.sha256(text.encode()).hexdigest(),
        lines=reader.lines,
    )


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise Refused(f"{path}: {error.strerror}", remedy="name the contract's file; `alih init` drafts one") from None
    if len(content) > MAX_BYTES:
        raise Refused(
            f"{path.name}: larger than {MAX_BYTES:,} bytes", remedy="one contract describes one migration; split it"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Refused(f"{path.name}: not UTF-8", remedy="save the file as UTF-8") from None


@dataclass(slots=True)
class _Reader:
    file: str
    lines: dict[tuple[Step, ...], int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def value(self, node: yaml.Node, path: tuple[Step, ...]) -> Data:
        self.lines[path] = node.start_mark.line + 1
        if len(path) > _MAX_DEPTH:
            self.problem(path, "nested too deeply", f"at most {_MAX_DEPTH} levels are read")
            return None
        if isinstance(node, yaml.MappingNode):
            return dict(self.items(node, path))
        if isinstance(node, yaml.SequenceNode):
            return [self.value(child, (*path, i)) for i, child in enumerate(node.value)]
        return self.scalar(node, path)

    def items(self, node: yaml.MappingNode, path: tuple[Step, ...]) -> Iterator[tuple[str, Data]]:
        seen: set[str] = set()
        for key, value in node.value:
            here = (*path, key.value if isinstance(key, yaml.ScalarNode) else "?")
            if not isinstance(key, yaml.ScalarNode):
                self.lines[here] = key.start_mark.line + 1
                self.problem(here, "a key that is no text", "write one word before the colon")
            elif key.value in seen:
                self.lines[here] = key.start_mark.line + 1
                self.problem(here, "given twice", "keep one of the two")
            else:
                seen.add(key.value)
                inner = self.value(value, here)
                self.lines[here] = key.start_mark.line + 1
                yield key.value, inner

    def scalar(self, node: yaml.Node, path: tuple[Step, ...]) -> Data:
        text = str(node.value)
        if node.tag.startswith("!"):
            self.problem(path, f"the tag {node.tag} is not read", "write the value without a tag")
            return None
        if not isinstance(node, yaml.ScalarNode) or node.style is not None:
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _INTEGER.fullmatch(text):
            return int(text)
        return float(text) if _DECIMAL.fullmatch(text) else text

    def problem(self, path: tuple[Step, ...], what: str, remedy: str) -> None:
        place = Place(file=self.file, line=self.lines[path], path=_dotted(path))
        self.problems.append(Problem(place, what, remedy))
