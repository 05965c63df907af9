"""Checkpoints: what the log was at a size, signed so that a stranger can hold on to it.

A checkpoint is a C2SP tlog-checkpoint (origin, size, root) in a C2SP signed note, under Ed25519; the forms are those of
https://c2sp.org/tlog-checkpoint and https://c2sp.org/signed-note. The log's origin is its key's name.
"""

import base64
import binascii
import hashlib
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from alih.errors import Corrupt, Refused

_ED25519 = b"\x01"
_SECRET = "PRIVATE+KEY+"  # noqa: S105 - how such a key begins, as golang.org/x/mod/sumdb/note writes it
_OTHERS = 0o077


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The log at `size` entries; `root` is the hash of its tree."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    @classmethod
    def of(cls, note: str) -> Self:
        """What a note says, its signature not looked at. Raises Corrupt if it is no checkpoint."""
        try:
            origin, size, root = note.partition("\n\n")[0].split("\n")
            return cls(origin, int(size), base64.b64decode(root, validate=True))
        except (ValueError, binascii.Error):
            raise Corrupt("a checkpoint cannot be read", remedy="export the evidence again") from None


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The log's key. `name` is the log's origin as well: no spaces, no plus."""

    name: str
    _private: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def load_or_make(cls, path: Path, name: str) -> Self:
        """The key in the file `path`; one is made (mode 600) if there is none. Raises Refused if others than its owner
        can read the file, or if it is the key of another log."""
        if not path.exists():
            _write_once(path, f"{_encoded(name, Ed25519PrivateKey.generate())}\n")
        if path.stat().st_mode & _OTHERS:
            raise Refused(
                f"others can read the signing key {path}",
                remedy=f"chmod 600 {path}; if somebody may have read it, remove it and start anew with another key",
            )
        key = cls(name, _decoded(path.read_text(encoding="utf-8").rstrip("\n"), path))
        if _encoded(name, key._private) != path.read_text(encoding="utf-8").rstrip("\n"):
            raise Refused(f"{path} is not the key of {name}", remedy="name another file, or remove this one")
        return key

    @property
    def vkey(self) -> str:
        """What a verifier has to know: `name+hash+base64(0x01 || public key)`."""
        public = self._private.public_key().public_bytes_raw()
        return f"{self.name}+{_key_hash(self.name, public).hex()}+{_base64(_ED25519 + public)}"

    def sign(self, checkpoint: Checkpoint) -> str:
        """The signed note."""
        text = checkpoint.text()
        public = self._private.public_key().public_bytes_raw()
        signature = _base64(_key_hash(self.name, public) + self._private.sign(text.encode()))
        return f"{text}\n— {self.name} {signature}\n"

    def signed(self, note: str) -> bool:
        """Whether this key signed the note, as `sign` does: Ed25519 gives one signature for one text."""
        return self.sign(Checkpoint.of(note)) == note


def _write_once(path: Path, text: str) -> None:
    """Make the file whole or not at all; if another process was first, its file stays."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        return
    finally:
        draft.unlink()


def _encoded(name: str, private: Ed25519PrivateKey) -> str:
    hashed = _key_hash(name, private.public_key().public_bytes_raw())
    return f"{_SECRET}{name}+{hashed.hex()}+{_base64(_ED25519 + private.private_bytes_raw())}"


def _decoded(text: str, path: Path) -> Ed25519PrivateKey:
    try:
        seed = base64.b64decode(text.removeprefix(_SECRET).split("+", 2)[2], validate=True)
        return Ed25519PrivateKey.from_private_bytes(seed.removeprefix(_ED25519))
    except (IndexError, ValueError):
        raise Refused(f"{path} holds no signing key", remedy="put the key back; without it start a new log") from None


def _key_hash(name: str, public: bytes) -> bytes:
    return hashlib.sha256(f"{name}\n".encode() + _ED25519 + public).digest()[:4]


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
