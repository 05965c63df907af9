"""From one API's JSON to the other's, by the contract's shapes: what a shape does not name does not pass.

Pure but for the links it is given. Numbers stay exact: JSON decimals are `Decimal` here, money is never a float.
"""

import re
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Final, TypeAlias

from alih.model.contract import Coded, Contract, Each, Fixed, Shape, Value
from alih.model.projection import Direction

Datum: TypeAlias = "str | int | Decimal | bool | Sequence[Datum] | Mapping[str, Datum] | None"


class _Missing(Enum):
    MISSING = "missing"


MISSING: Final = _Missing.MISSING


class Unfit(Exception):
    """The value at `path` is not what the contract says. Never holds the value."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


class Unlinked(Unfit):
    """The row that `path` names has no twin on the other side."""


Codes: TypeAlias = Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversions:
    """What values of one direction may need: code lists by `entity.target_column`, and links by entity and id.

    `plain` is asked for each text that passes as it is.
    """

    codes: Mapping[str, Codes]
    link: Callable[[str, str], Awaitable[str | None]]
    plain: Callable[[str], Awaitable[str]]


async def as_it_is(text: str) -> str:
    return text


def code_lists(contract: Contract, direction: Direction) -> dict[str, Codes]:
    """All code lists of the contract, read in that direction."""
    return {
        f"{entity.name}.{field.target}": _code_list(field.rule, direction)
        for entity in contract.entities
        for field in entity.fields
        if isinstance(field.rule, Coded)
    }


def _code_list(rule: Coded, direction: Direction) -> Codes:
    return rule.forward if direction is Direction.FORWARD else rule.back


async def shaped(shape: Shape, scope: Mapping[str, Datum], conversions: Conversions) -> dict[str, Datum]:
    """The object that `shape` describes, from the parts in `scope`. Raises Unfit or Unlinked."""
    made: dict[str, Datum] = {}
    for name, part in shape.items():
        value = await _made(part, scope, conversions)
        if value is not MISSING:
            made[name] = value
    return made


def paths_in(shape: Shape) -> Iterator[str]:
    """Every path that the shape reads."""
    for part in shape.values():
        match part:
            case Fixed():
                pass
            case Value():
                yield part.path
            case Each():
                yield part.path
                yield from paths_in(part.shape)
            case _:
                yield from paths_in(part)


async def _made(
    part: Value | Each | Fixed | Shape, scope: Mapping[str, Datum], conversions: Conversions
) -> "Datum | _Missing":
    match part:
        case Fixed():
            return part.literal
        case Value():
            return await _converted(part, found(part.path, scope), conversions)
        case Each():
            return await _each(part, found(part.path, scope), scope, conversions)
        case _:
            return await shaped(part, scope, conversions)


def found(path: str, scope: Mapping[str, Datum]) -> "Datum | _Missing":
    """What stands at the dotted path; None where it or something above it is null."""
    here: Datum | _Missing = scope
    for word in path.split("."):
        if here is None:
            return None
        if not isinstance(here, Mapping) or word not in here:
            return MISSING
        here = here[word]
    return here


async def _each(
    each: Each, items: "Datum | _Missing", scope: Mapping[str, Datum], conversions: Conversions
) -> "Datum | _Missing":
    if items is None or items is MISSING:
        return items
    if not isinstance(items, list):
        raise Unfit(each.path)
    return [await shaped(each.shape, {**scope, "item": item}, conversions) for item in items]


async def _converted(value: Value, datum: "Datum | _Missing", conversions: Conversions) -> "Datum | _Missing":
    if datum is None or datum is MISSING:
        return datum
    if value.coded is not None:
        datum = _recoded(value.path, datum, conversions.codes[value.coded])
    if value.link is not None:
        datum = await _linked(value.path, datum, value.link, conversions)
    if value.cast is not None:
        return _CASTS[value.cast](value.path, datum)
    return await _plain(value.path, datum, conversions)


async def _plain(path: str, datum: Datum, conversions: Conversions) -> Datum:
    """A scalar, or a list of scalars: an object would bring fields along that the contract does not name."""
    if isinstance(datum, str):
        return await conversions.plain(datum)
    if isinstance(datum, list):
        return [await _plain(path, _scalar(path, item), conversions) for item in datum]
    return _scalar(path, datum)


def _scalar(path: str, datum: Datum) -> Datum:
    if isinstance(datum, Mapping | list):
        raise Unfit(path)
    return datum


def _recoded(path: str, datum: Datum, codes: Codes) -> str:
    try:
        return codes[_text(path, datum)]
    except KeyError:
        raise Unfit(path) from None


async def _linked(path: str, datum: Datum, entity: str, conversions: Conversions) -> str:
    twin = await conversions.link(entity, _text(path, datum))
    if twin is None:
        raise Unlinked(path)
    return twin


def _text(path: str, datum: Datum) -> str:
    if isinstance(datum, bool) or not isinstance(datum, str | int | Decimal):
        raise Unfit(path)
    return f"{datum:f}" if isinstance(datum, Decimal) else str(datum)


def _integer(path: str, datum: Datum) -> int:
    text = _text(path, datum)
    if not re.fullmatch(r"-?(0|[1-9][0-9]{0,18})", text, re.ASCII):
        raise Unfit(path)
    return int(text)


def _amount(path: str, datum: Datum) -> Decimal:
    text = _text(path, datum)
    if not re.fullmatch(r"-?[0-9]{1,18}(\.[0-9]{1,6})?", text, re.ASCII):
        raise Unfit(path)
    try:
        # Exact: an amount with a fraction that two decimals cannot hold is no amount of rupiah.
        amount = Decimal(text)
        cents = amount.quantize(Decimal("0.01"))
    except InvalidOperation:
        raise Unfit(path) from None
    if cents != amount:
        raise Unfit(path)
    return cents


def _rupiah_text(path: str, datum: Datum) -> str:
    return f"{_amount(path, datum):f}"


def _rupiah(path: str, datum: Datum) -> int:
    amount = _amount(path, datum)
    if amount != amount.to_integral_value():
        raise Unfit(path)
    return int(amount)


_CASTS: Mapping[str, Callable[[str, Datum], Datum]] = {
    "text": _text,
    "integer": _integer,
    "rupiah_text": _rupiah_text,
    "rupiah": _rupiah,
}
