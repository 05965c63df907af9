"""The one form in which evidence is hashed: canonical JSON (RFC 8785), without floats."""

from collections.abc import Mapping, Sequence

import rfc8785

Json = None | bool | int | str | Sequence["Json"] | Mapping[str, "Json"]


def canonical(value: Json) -> bytes:
    """`value` in the form of RFC 8785. Raises TypeError for a float or anything else that is not `Json`, ValueError
    for an integer that JSON readers may round (beyond ±(2^53 - 1)) and for text that is not Unicode (a surrogate)."""
    return rfc8785.dumps(plain(value))


def plain(value: Json) -> "rfc8785._impl._Value":
    """`value` as dict, list, str, int, bool and None only."""
    match value:
        case None | bool() | int():
            return value
        case str():
            return str(value)
        case Mapping():
            return {_name(name): plain(item) for name, item in value.items()}
        case Sequence() if not isinstance(value, bytes | bytearray):
            return [plain(item) for item in value]
        case _:
            raise TypeError(f"evidence holds no {type(value).__name__}")  # never the value


def _name(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"evidence has no names of type {type(name).__name__}")
    return str(name)
