"""`alih bench`: what can be measured, by name."""

from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from alih.bench import copy, follow, verify


class What(StrEnum):
    """What is measured."""

    COPY = "copy"
    FOLLOW = "follow"
    VERIFY = "verify"


_BENCHES: Mapping[What, Callable[..., Awaitable[dict[str, Any]]]] = MappingProxyType(
    {What.COPY: copy.bench, What.FOLLOW: follow.bench, What.VERIFY: verify.bench}
)


async def bench(what: What, rounds: int, rows: int | None) -> dict[str, Any]:
    """The figures of `what`; `rows` None is the number that its figures are quoted for."""
    return await _BENCHES[what](rounds=rounds, **({} if rows is None else {"rows": rows}))
