"""What a stranger needs to check the page: the key, its fingerprint, the checkpoint."""

import base64
import hashlib
from dataclasses import dataclass

from alih.evidence.note import Checkpoint

_GROUP = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """`vkey` is what the verifier is given, `fingerprint` the SHA-256 of its public key in groups of four hex digits:
    short enough to be read out on the telephone. Both are what the log says of itself. `root` is hex, as
    alih-verify prints it."""

    vkey: str
    fingerprint: str
    origin: str
    root: str


def signature(note: str, vkey: str) -> Signature:
    """From the signed checkpoint and the key of which the log says that it signs."""
    checkpoint = Checkpoint.of(note)
    return Signature(
        vkey=vkey,
        fingerprint=fingerprint(vkey),
        origin=checkpoint.origin,
        root=checkpoint.root.hex(),
    )


def fingerprint(vkey: str) -> str:
    """Of a C2SP verifier key: name+hash+base64(0x01 || the 32 bytes of an Ed25519 key)."""
    public = base64.b64decode(vkey.split("+", 2)[2])[1:]
    digits = hashlib.sha256(public).hexdigest()
    return " ".join(digits[at : at + _GROUP] for at in range(0, len(digits), _GROUP))
