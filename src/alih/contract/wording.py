"""pydantic's complaints in the words of somebody who edits `alih.yaml`."""

from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from alih.contract import shape
from alih.contract.document import Data, Document, Step
from alih.contract.problem import Problem

_REMEDIES = {
    "purpose": "say in one line what the other side needs it for",
    "key": "pair the key columns: {source_column: target_column}",
    "migration": "a short name: a-z, 0-9 and -, beginning with a letter, at most 31 characters",
    "call": "METHOD and path, as in `GET /api/shops/{tenant}`",
    "front": "METHOD and path, as in `POST /api/shops/{shop_id}/orders`",
    "not_moved": "each column with its reason: {internal_note: never shown to anyone}",
}
_BY_TYPE = {
    "missing": "add it",
    "string_type": "write text, in quotes if it is a number",
    "string_too_short": "write it out; it may not be empty",
    "dict_type": "write a mapping, key: value",
    "model_type": "write a mapping, key: value",
    "list_type": "write a list, [a, b]",
    "int_type": "write a whole number",
    "too_short": "give at least one",
}


def problems(error: ValidationError, document: Document) -> Iterator[Problem]:
    """One problem for each complaint, at its line; a value is never repeated."""
    for detail in error.errors(include_url=False, include_input=False, include_context=False):
        path = tuple(_path(detail["loc"], document))
        yield Problem(document.place(*path), _what(detail), _remedy(detail, path))


def _path(steps: tuple[Step, ...], document: Document) -> Iterator[Step]:
    """`steps` without the marks that pydantic puts in for a chosen variant (`<from>`, `str`, `int`, `[key]`)."""
    value: Data = document.data
    for i, step in enumerate(steps):
        inner = _inner(value, step)
        if inner is _NOTHING and (i < len(steps) - 1 or _is_mark(step)):
            continue
        yield step
        value = None if inner is _NOTHING else inner


_NOTHING = object()


def _inner(value: Data, step: Step) -> Any:  # a part of the data, or _NOTHING
    if isinstance(value, dict):
        return value.get(step, _NOTHING)
    return value[step] if isinstance(value, list) and isinstance(step, int) else _NOTHING


def _is_mark(step: Step) -> bool:
    return str(step).startswith(("<", "[")) or step in ("str", "int")


def _what(detail: ErrorDetails) -> str:
    match detail["type"]:
        case "missing":
            return "is missing"
        case "extra_forbidden":
            return "unknown key"
        case _:
            return detail["msg"].replace("Input should", "should").replace("String should", "should")


def _remedy(detail: ErrorDetails, path: tuple[Step, ...]) -> str:
    last = str(path[-1]) if path else ""
    if detail["type"] == "extra_forbidden":
        near = get_close_matches(last, sorted(_known_keys()), n=1, cutoff=0.75)
        return f"did you mean {near[0]}?" if near else "remove it"
    return _REMEDIES.get(last) or _BY_TYPE.get(detail["type"]) or "correct it"


def _known_keys() -> set[str]:
    models = (m for m in vars(shape).values() if isinstance(m, type) and issubclass(m, BaseModel))
    return {field.alias or name for model in models for name, field in model.model_fields.items()} - {"root"}
