"""Ways to change a bundle, each by a generator's dice: from a byte anywhere to what only a forger would do."""

import json
import random
from collections.abc import Callable
from typing import Any

from alih.evidence.canonical import canonical

Mutation = Callable[[random.Random, bytes, bytes], bytes]


def _entry(dice: random.Random, lines: list[bytes]) -> int:
    return dice.randrange(1, len(lines) - 1)


def edit_a_byte(dice: random.Random, bundle: bytes, _: bytes) -> bytes:
    at = dice.randrange(len(bundle))
    return bundle[:at] + bytes([bundle[at] ^ dice.randrange(1, 256)]) + bundle[at + 1 :]


def edit_a_bit(dice: random.Random, bundle: bytes, _: bytes) -> bytes:
    at = dice.randrange(len(bundle))
    return bundle[:at] + bytes([bundle[at] ^ 1 << dice.randrange(8)]) + bundle[at + 1 :]


def insert_a_byte(dice: random.Random, bundle: bytes, _: bytes) -> bytes:
    at = dice.randrange(len(bundle) + 1)
    return bundle[:at] + bytes([dice.choice(b' \n\r\t0"{}\x00a')]) + bundle[at:]


def drop_bytes(dice: random.Random, bundle: bytes, _: bytes) -> bytes:
    at = dice.randrange(len(bundle))
    return bundle[:at] + bundle[at + dice.randrange(1, 9) :]


def cut_off(dice: random.Random, bundle: bytes, _: bytes) -> bytes:
    return bundle[: dice.randrange(len(bundle))]


def _of_lines(change: Callable[[random.Random, list[bytes], list[bytes]], object]) -> Mutation:
    def mutation(dice: random.Random, bundle: bytes, other: bytes) -> bytes:
        lines = bundle.split(b"\n")[:-1]
        change(dice, lines, other.split(b"\n")[:-1])
        return b"".join(line + b"\n" for line in lines)

    mutation.__name__ = change.__name__
    return mutation


@_of_lines
def drop_a_line(dice: random.Random, lines: list[bytes], _: list[bytes]) -> None:
    del lines[dice.randrange(len(lines))]


@_of_lines
def double_a_line(dice: random.Random, lines: list[bytes], _: list[bytes]) -> None:
    at = dice.randrange(len(lines))
    lines.insert(dice.randrange(len(lines) + 1), lines[at])


@_of_lines
def swap_two_lines(dice: random.Random, lines: list[bytes], _: list[bytes]) -> None:
    one, two = dice.sample(range(len(lines)), 2)
    lines[one], lines[two] = lines[two], lines[one]


@_of_lines
def cut_the_tail(dice: random.Random, lines: list[bytes], _: list[bytes]) -> None:
    """The last entries go; header and checkpoint stay, or the header is made to fit."""
    size = _entry(dice, lines) - 1
    del lines[size + 1 : -1]
    if dice.random() < 0.5:
        lines[0] = _changed(lines[0], lambda header: header.update(entries=size))


@_of_lines
def splice(dice: random.Random, lines: list[bytes], other: list[bytes]) -> None:
    """From some entry on it is another bundle, of the same key."""
    at = _entry(dice, lines)
    lines[at:] = other[at:]


@_of_lines
def take_an_entry_of_another(dice: random.Random, lines: list[bytes], other: list[bytes]) -> None:
    at = _entry(dice, lines)
    lines[at] = other[at]


@_of_lines
def take_the_checkpoint_of_another(dice: random.Random, lines: list[bytes], other: list[bytes]) -> None:
    lines[-1] = other[-1]
    if dice.random() < 0.5:
        lines[0] = other[0]


@_of_lines
def drop_and_renumber(dice: random.Random, lines: list[bytes], _: list[bytes]) -> None:
    del lines[_entry(dice, lines)]
    _renumber(lines)


@_of_lines
def insert_and_renumber(dice: random.Random, lines: list[bytes], other: list[bytes]) -> None:
    lines.insert(_entry(dice, lines), other[_entry(dice, other)])
    _renumber(lines)


@_of_lines
def swap_and_renumber(dice: random.Random, lines: list[bytes], _: list[bytes]) -> None:
    one, two = dice.sample(range(1, len(lines) - 1), 2)
    lines[one], lines[two] = lines[two], lines[one]
    _renumber(lines)


@_of_lines
def edit_a_fact(dice: random.Random, lines: list[bytes], _: list[bytes]) -> None:
    """In canonical form, as somebody would who knows the format."""
    at = _entry(dice, lines)

    def change(line: dict[str, Any]) -> None:
        name = dice.choice([name for name in line["leaf"] if name not in {"n", "commitments"}])
        line["leaf"][name] = "2026-11-24T01:02:03.999Z" if name == "at" else "changed"

    lines[at] = _changed(lines[at], change)


@_of_lines
def add_a_name(dice: random.Random, lines: list[bytes], _: list[bytes]) -> None:
    at = dice.randrange(len(lines))
    lines[at] = _changed(lines[at], lambda line: dice.choice([line, line.get("leaf", line)]).update(more=None))


@_of_lines
def swap_openings(dice: random.Random, lines: list[bytes], _: list[bytes]) -> None:
    """Between two entries, or within one."""
    with_openings = [at for at in range(1, len(lines) - 1) if b'"openings":' in lines[at]]
    one, two = (json.loads(lines[at]) for at in dice.sample(with_openings, 2))
    if dice.random() < 0.5:
        one["openings"], two["openings"] = two["openings"], one["openings"]
    else:
        for line in (one, two):
            line["openings"] = dict(zip(line["openings"], reversed(line["openings"].values()), strict=True))
    for line in (one, two):
        lines[line["leaf"]["n"] + 1] = canonical(line)


@_of_lines
def edit_an_opening(dice: random.Random, lines: list[bytes], _: list[bytes]) -> None:
    """Another value, another salt, the salt in capitals, or the opening left out without a word."""
    at = dice.choice([at for at in range(1, len(lines) - 1) if b'"openings":' in lines[at]])

    def change(line: dict[str, Any]) -> None:
        name = dice.choice(list(line["openings"]))
        opening = line["openings"][name]
        match dice.randrange(4):
            case 0:
                opening["value"] += "0"
            case 1:
                opening["salt"] = dice.randbytes(16).hex()
            case 2:
                opening["salt"] = opening["salt"].upper()
            case _:
                del line["openings"][name]

    lines[at] = _changed(lines[at], change)


def _changed(line: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    said = json.loads(line)
    change(said)
    return canonical(said)


def _renumber(lines: list[bytes]) -> None:
    for number, at in enumerate(range(1, len(lines) - 1)):
        said = json.loads(lines[at])
        said["leaf"]["n"] = number
        lines[at] = canonical(said)
    lines[0] = _changed(lines[0], lambda header: header.update(entries=len(lines) - 2))


MUTATIONS: tuple[Mutation, ...] = (
    edit_a_byte,
    edit_a_bit,
    insert_a_byte,
    drop_bytes,
    cut_off,
    drop_a_line,
    double_a_line,
    swap_two_lines,
    cut_the_tail,
    splice,
    take_an_entry_of_another,
    take_the_checkpoint_of_another,
    drop_and_renumber,
    insert_and_renumber,
    swap_and_renumber,
    edit_a_fact,
    add_a_name,
    swap_openings,
    edit_an_opening,
)
