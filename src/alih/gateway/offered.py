"""The operations of a contract by the calls they answer, and the front end's own paths for the target's links."""

import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote, unquote, urlsplit

from alih.gateway.shapes import Unfit
from alih.model.contract import Operation, Value

# What may stand in a path that we write: nothing that a server could read as a separator or a step up.
_PLAIN = re.compile(r"[A-Za-z0-9._~-]{1,200}")


class Template:
    """A path with placeholders, each a segment of its own."""

    def __init__(self, path: str) -> None:
        self._segments = path.split("/")
        # Among templates that fit, the one with words earlier is meant.
        self.precedence = tuple(_placeholder(segment) is not None for segment in self._segments)

    @property
    def names(self) -> list[str]:
        return [name for segment in self._segments if (name := _placeholder(segment)) is not None]

    def match(self, path: str) -> dict[str, str] | None:
        """The placeholders' texts; None when `path` (without query, escapes as sent) is another."""
        segments = path.split("/")
        if len(segments) != len(self._segments):
            return None
        values: dict[str, str] = {}
        for expected, segment in zip(self._segments, segments, strict=True):
            name = _placeholder(expected)
            if name is None and expected != segment:
                return None
            if name is not None:
                values[name] = unquote(segment)
        return values

    def filled(self, values: Mapping[str, str]) -> str:
        """The path with `values` in place. Raises Unfit for one that is missing or not plain."""
        return "/".join(self._filled(segment, values) for segment in self._segments)

    def _filled(self, segment: str, values: Mapping[str, str]) -> str:
        name = _placeholder(segment)
        if name is None:
            return segment
        value = values.get(name, "")
        if not _PLAIN.fullmatch(value) or value in {".", ".."}:
            raise Unfit(f"path.{name}")
        return quote(value, safe="")


def _placeholder(segment: str) -> str | None:
    found = re.fullmatch(r"\{(\w+)\}", segment)
    return found.group(1) if found else None


class Offered:
    """What the front end may call."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        known = [(operation.front[0].upper(), Template(operation.front[1]), operation) for operation in operations]
        self._known = sorted(known, key=lambda entry: entry[1].precedence)

    def find(self, method: str, path: str) -> tuple[Operation, dict[str, str]] | None:
        """The operation of a front call, and the call's placeholders."""
        for known, template, operation in self._known:
            if known == method and (values := template.match(path)) is not None:
                return operation, values
        return None


class FrontPaths:
    """The target's own links (to an invoice, say) as paths of the front end: nobody is sent to another host."""

    def __init__(self, operations: Iterable[Operation], target: str) -> None:
        self._target = target
        self._documents = [(Template(o.target[1]), o) for o in operations if o.target[0].upper() == "GET"]
        self._documents.sort(key=lambda entry: entry[0].precedence)

    def of(self, text: str) -> tuple[Operation, dict[str, str]] | None:
        """The operation behind a text that is a link of the target, and the link's placeholders; None for other texts.

        Raises Unfit for a link to the target's host that no operation offers.
        """
        if not text.startswith(("/", "http://", "https://")):
            return None
        link = urlsplit(text)
        # Whatever host it names: the target may call itself otherwise than we call it.
        for template, operation in self._documents:
            if (values := template.match(link.path)) is not None:
                return operation, values
        if link.netloc == self._target:
            raise Unfit("a link of the target")
        return None


def front_parameters(operation: Operation) -> dict[str, tuple[str, str | None]]:
    """For each front placeholder the target placeholder that tells it, and the entity whose link lies between."""
    return {
        value.path.removeprefix("path."): (name, value.link)
        for name, value in operation.path.items()
        if isinstance(value, Value) and value.path.startswith("path.") and value.coded is None
    }
