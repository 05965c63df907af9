"""alih-verify: checks a bundle of evidence that alih exported. One file, which shares no code with alih.

    alih-verify BUNDLE --key KEY [--witness CHECKPOINT] [--json]

It needs Python's standard library and `cryptography`, and can be read in one sitting; whoever does not trust the
program that made the evidence can still trust this. KEY is the log's public key (a vkey, or a file that holds one), had
from somewhere else than the bundle. CHECKPOINT is a checkpoint of the same log that an outsider kept earlier.

The bundle is JSON Lines in canonical form (RFC 8785): a header, a line for each entry, a checkpoint (C2SP signed note)
whose root is that of the entries' Merkle tree (RFC 6962). Exit codes: 0 verified, 1 rejected, 64 nothing to check.
"""

import argparse
import base64
import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Never

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

VERIFIED, REJECTED, UNUSABLE = 0, 1, 64

_SAFE_INTEGER = 2**53 - 1  # beyond it, readers of JSON may round
_HEX32, _HEX64 = re.compile(r"[0-9a-f]{32}"), re.compile(r"[0-9a-f]{64}")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", re.ASCII)
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,15}")
_KEY_NAME = re.compile(r"[^\s+\x00-\x1f\x7f]+")


class Rejected(Exception):
    """The bundle is not what the log signed; `line` is where this shows, if it is one line."""

    def __init__(self, reason: str, line: int | None = None) -> None:
        super().__init__(reason if line is None else f"line {line}: {reason}")
        self.reason, self.line = reason, line


class Unusable(Exception):
    """There is nothing to check: no such file, no key, a file that ends early."""


@dataclass(frozen=True, slots=True)
class Key:
    """A verifier key as C2SP writes it: name+hash+base64(0x01 || Ed25519 public key)."""

    name: str
    hash: bytes
    public: Ed25519PublicKey

    @classmethod
    def parse(cls, text: str) -> "Key":
        name, _, rest = text.strip().partition("+")
        hashed, _, encoded = rest.partition("+")
        try:
            data = base64.b64decode(encoded, validate=True)
        except ValueError:
            raise Unusable("the key is no verifier key (name+hash+base64)") from None
        right = hashlib.sha256(f"{name}\n".encode() + data).hexdigest()[:8]
        if not _KEY_NAME.fullmatch(name) or len(data) != 33 or data[0] != 1 or hashed != right:
            raise Unusable("the key is no verifier key of Ed25519, or was copied wrongly: its hash does not fit")
        return cls(name, bytes.fromhex(hashed), Ed25519PublicKey.from_public_bytes(data[1:]))


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What was signed: the tree of the first `size` entries has the hash `root`."""

    origin: str
    size: int
    root: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was found in a bundle that is as it was signed. `witnessed` is how many entries the witness vouches for."""

    origin: str
    entries: int
    root: str
    kinds: dict[str, int]
    opened: int
    withheld: int
    witnessed: int | None
    not_checkable: list[str]
    verified: bool = field(default=True)


def verify(bundle: bytes, key: Key, witness: bytes | None = None) -> Report:
    """Check everything that can be checked. Raises Rejected or Unusable."""
    first, *middle, last = _lines(bundle)
    signed = _signed(_checkpoint_of(last, len(middle) + 2), key, alone=True, line=len(middle) + 2)
    _check_header(_read(first, 1), signed, len(middle))
    held = None if witness is None else _signed(_text(witness), key, alone=False, line=None)
    if held is not None and held.size > signed.size:
        raise Rejected(f"the witness holds a checkpoint of {held.size} entries, the bundle ends after {signed.size}")
    tree, kinds, shown = Tree(), Counter[str](), Counter[bool]()
    for number, line in enumerate(middle):
        _check_witnessed(tree, held)
        content, entry = _entry(line, number, shown)
        kinds[entry["kind"]] += 1
        tree.append(content)
    _check_witnessed(tree, held)
    if tree.root != signed.root:
        raise Rejected("the entries are not those that the checkpoint signs: one was changed, or stands elsewhere")
    return Report(
        origin=signed.origin,
        entries=signed.size,
        root=signed.root.hex(),
        kinds=dict(sorted(kinds.items())),
        opened=shown[True],
        withheld=shown[False],
        witnessed=None if held is None else held.size,
        not_checkable=_not_checkable(signed.size, None if held is None else held.size),
    )


def _check_witnessed(tree: "Tree", held: Checkpoint | None) -> None:
    if held is not None and tree.size == held.size and tree.root != held.root:
        raise Rejected(
            f"the first {held.size} entries are not those of the witness's checkpoint: the log was rolled back and"
            " grown anew, or shows different people different entries"
        )


def _not_checkable(size: int, held: int | None) -> list[str]:
    """What nobody can tell from this input, said plainly."""
    if not held:
        return ["a tail cut off or a log rolled back: not checkable without a witness"]
    if held < size:
        return [f"entries {held} to {size - 1} rest on the log's own signature: no witness has seen them"]
    return ["entries that came after the witness's checkpoint and are not in this bundle"]


# --- the lines -------------------------------------------------------------------------------------------------


def _lines(bundle: bytes) -> list[bytes]:
    if not bundle:
        raise Unusable("the bundle is empty")
    if not bundle.endswith(b"\n"):
        raise Unusable("the bundle was cut off: its last line has no end; get it again, whole")
    lines = bundle[:-1].split(b"\n")
    if len(lines) < 2 or not lines[-1].startswith(b'{"checkpoint":'):
        raise Unusable("the bundle does not end with a checkpoint: it was cut off; get it again, whole")
    return lines


def _read(line: bytes, at: int) -> dict[str, Any]:
    """The JSON object of a line, which has to be in canonical form to the byte."""
    try:
        said = json.loads(line, parse_float=_no_number, parse_constant=_no_number)
        same = canonical(said) == line
    except (ValueError, RecursionError):  # with it come UnicodeDecodeError and UnicodeEncodeError
        raise Rejected("this is no canonical JSON without floats", at) from None
    if not same or not isinstance(said, dict):
        raise Rejected("this is no canonical JSON object (RFC 8785)", at)
    return said


def _no_number(_: str) -> Never:
    raise ValueError


def canonical(value: Any) -> bytes:
    """RFC 8785 of what a JSON reader gives, floats apart. Python writes its strings and integers the same way."""
    return _written(value).encode()


def _written(value: Any) -> str:
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: name.encode("utf-16-be"))
        return "{" + ",".join(f"{_written(name)}:{_written(value[name])}" for name in names) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_written, value)) + "]"
    if isinstance(value, int) and abs(value) > _SAFE_INTEGER:
        raise ValueError
    return json.dumps(value, ensure_ascii=False)


def _check_header(header: dict[str, Any], signed: Checkpoint, entries: int) -> None:
    if canonical(header) != canonical(
        {"alih": "evidence bundle", "version": 1, "origin": signed.origin, "entries": signed.size}
    ):
        raise Rejected("the header is not that of a bundle of version 1 with this checkpoint's origin and size", 1)
    if entries != signed.size:
        raise Rejected(f"the checkpoint signs {signed.size} entries, the bundle has {entries}")


def _entry(line: bytes, number: int, shown: Counter[bool]) -> tuple[bytes, dict[str, Any]]:
    """The bytes that are hashed, and the entry; openings are checked and counted."""
    at = number + 2
    said = _read(line, at)
    entry = said.get("leaf")
    if not isinstance(entry, dict) or set(said) != ({"leaf", "openings"} if "commitments" in entry else {"leaf"}):
        raise Rejected("this line is no entry", at)
    if type(entry.get("n")) is not int or entry["n"] != number:
        raise Rejected(f"this is not entry {number}: one was dropped, inserted or put elsewhere", at)
    if not isinstance(entry.get("kind"), str) or not _is(_MOMENT, entry.get("at")):
        raise Rejected("this entry has no kind or no time", at)
    if "commitments" in entry:
        _check_openings(entry["commitments"], said["openings"], at, shown)
    return canonical(entry), entry


def _check_openings(commitments: Any, openings: Any, at: int, shown: Counter[bool]) -> None:
    if not (isinstance(commitments, dict) and isinstance(openings, dict) and commitments.keys() == openings.keys()):
        raise Rejected("the openings are not those of the entry's commitments", at)
    for name, commitment in commitments.items():
        opening = openings[name]
        shown[opening is not None] += 1
        if not _is(_HEX64, commitment) or (opening is not None and not _opens(opening, commitment)):
            raise Rejected("a value is not the one that the entry commits to", at)


def _opens(opening: Any, commitment: str) -> bool:
    if not isinstance(opening, dict) or opening.keys() != {"salt", "value"}:
        return False
    salt, value = opening["salt"], opening["value"]
    if not _is(_HEX32, salt) or not isinstance(value, str):
        return False
    return hashlib.sha256(bytes.fromhex(salt) + value.encode()).hexdigest() == commitment


def _is(form: re.Pattern[str], value: Any) -> bool:
    return isinstance(value, str) and form.fullmatch(value) is not None


# --- the checkpoint ----------------------------------------------------------------------------------------------


def _checkpoint_of(line: bytes, at: int) -> str:
    said = _read(line, at)
    note = said.get("checkpoint")
    if set(said) != {"checkpoint"} or not isinstance(note, str):
        raise Rejected("this line is no checkpoint", at)
    return note


def _text(witness: bytes) -> str:
    text = witness.decode(errors="replace")
    if "\n\n" not in text:
        raise Unusable("the witness's file is no checkpoint (a signed note)")
    return text


def _signed(note: str, key: Key, *, alone: bool, line: int | None) -> Checkpoint:
    """The checkpoint, if `key` signed it. Other signatures may stand beside it unless it is to be `alone`."""
    whose = "the witness's checkpoint" if line is None else "the checkpoint"
    text, gap, signatures = note.partition("\n\n")
    lines = signatures.split("\n")
    if not gap or lines.pop() != "" or (alone and len(lines) != 1):
        raise Rejected(f"{whose} is no note with a signature", line)
    if not any(_signs(f"{text}\n".encode(), signature, key) for signature in lines):
        raise Rejected(f"{whose} is not signed by the key {key.name}", line)
    origin, *rest = text.split("\n")
    if origin != key.name or len(rest) != 2 or not _DECIMAL.fullmatch(rest[0]):
        raise Rejected(f"{whose} is not one of the log {key.name}", line)
    return Checkpoint(origin, int(rest[0]), _exactly(rest[1]) or b"")


def _signs(text: bytes, signature: str, key: Key) -> bool:
    lead, _, encoded = signature.rpartition(" ")
    raw = _exactly(encoded)
    if lead != f"\u2014 {key.name}" or raw is None or len(raw) != 68 or raw[:4] != key.hash:
        return False
    try:
        key.public.verify(raw[4:], text)
    except InvalidSignature:
        return False
    return True


def _exactly(encoded: str) -> bytes | None:
    """Base64 that has only this one way of writing its bytes."""
    try:
        data = base64.b64decode(encoded, validate=True)
    except ValueError:
        return None
    return data if base64.b64encode(data).decode() == encoded else None


class Tree:
    """The Merkle tree of RFC 6962, section 2.1; `peaks` are the roots of its full subtrees, the largest first."""

    def __init__(self) -> None:
        self.size = 0
        self.peaks: list[bytes] = []

    def append(self, leaf: bytes) -> None:
        made = hashlib.sha256(b"\x00" + leaf).digest()
        full = self.size
        while full & 1:
            made = hashlib.sha256(b"\x01" + self.peaks.pop() + made).digest()
            full >>= 1
        self.peaks.append(made)
        self.size += 1

    @property
    def root(self) -> bytes:
        if not self.peaks:
            return hashlib.sha256().digest()
        *rest, root = self.peaks
        for peak in reversed(rest):
            root = hashlib.sha256(b"\x01" + peak + root).digest()
        return root


# --- the command -------------------------------------------------------------------------------------------------


def main(arguments: Sequence[str] | None = None) -> int:
    """The entry point of `alih-verify`; returns its exit code."""
    chosen = _arguments(arguments)
    try:
        witness = None if chosen.witness is None else _file(Path(chosen.witness), "the witness's checkpoint")
        report = verify(_file(Path(chosen.bundle), "the bundle"), _key(chosen.key), witness)
    except Rejected as found:
        said: dict[str, Any] = {"verified": False, "line": found.line, "reason": found.reason}
        return _end(REJECTED, said, [f"REJECTED: {found}"], chosen.json)
    except Unusable as cause:
        return _end(UNUSABLE, {"verified": False, "line": None, "reason": str(cause)}, [str(cause)], chosen.json)
    return _end(VERIFIED, asdict(report), _sentences(report), chosen.json)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Never:
        self.exit(UNUSABLE, f"{self.format_usage()}{message}\n")


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _Parser(prog="alih-verify", description="Check a bundle of evidence that alih exported.")
    parser.add_argument("bundle", metavar="BUNDLE", help="the file that alih evidence export wrote")
    parser.add_argument("--key", required=True, help="the log's public key (name+hash+base64), or a file that holds it")
    parser.add_argument("--witness", metavar="CHECKPOINT", help="a checkpoint of this log that an outsider has kept")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    return parser.parse_args(arguments)


def _file(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as refused:
        raise Unusable(f"{what} cannot be read: {refused.strerror}") from None


def _key(text: str) -> Key:
    if "+" in text and not Path(text).is_file():
        return Key.parse(text)
    return Key.parse(_file(Path(text), "the key").decode(errors="replace"))


def _sentences(report: Report) -> Iterable[str]:
    yield f"verified: {report.entries} entries of {report.origin}, none changed, missing, added or out of place"
    yield f"  kinds: {', '.join(f'{json.dumps(kind)[1:-1]} {count}' for kind, count in report.kinds.items())}"
    yield f"  values behind commitments: {report.opened} shown and right, {report.withheld} withheld"
    yield f"  root: {report.root}"
    if report.witnessed:
        yield f"  the witness's checkpoint vouches for the first {report.witnessed} entries"
    for limit in report.not_checkable:
        yield f"  {limit}"


def _end(code: int, document: dict[str, Any], sentences: Iterable[str], as_json: bool) -> int:
    text = json.dumps(document, indent=2) if as_json else "\n".join(sentences)
    (sys.stdout if code == VERIFIED or as_json else sys.stderr).write(f"{text}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
