"""alih-verify through its command: what it accepts, what it rejects, and what it says it cannot tell."""

import ast
import base64
import json
import random
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import alih_verify
from alih.errors import Refused
from alih.evidence.bundle import Bundle
from alih.evidence.canonical import canonical
from alih.evidence.entry import Entry
from alih.evidence.note import Checkpoint
from tests.unit.evidence.log import ORIGIN, Log, drawn
from tests.unit.evidence.mutations import MUTATIONS

SEED = 20231212
NOT_CHECKABLE = "a tail cut off or a log rolled back: not checkable without a witness"


@dataclass(frozen=True, slots=True)
class Desk:
    """Where somebody checks bundles: a directory, the key, and the command's answers as documents."""

    directory: Path
    capture: pytest.CaptureFixture[str]
    key: str

    def check(self, bundle: str | bytes, witness: str | bytes | None = None, key: str = "") -> tuple[int, Any]:
        asked = [self._file("bundle", bundle), "--key", key or self.key, "--json"]
        code = alih_verify.main(asked if witness is None else [*asked, "--witness", self._file("witness", witness)])
        return code, json.loads(self.capture.readouterr().out)

    def _file(self, name: str, content: str | bytes) -> str:
        path = self.directory / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)


@pytest.fixture
def log(tmp_path: Path) -> Log:
    made = Log.of(tmp_path)
    made.grow(drawn(random.Random(SEED), 40))
    return made


@pytest.fixture
def desk(tmp_path: Path, log: Log, capsys: pytest.CaptureFixture[str]) -> Desk:
    return Desk(tmp_path, capsys, log.key.vkey)


def regrown(log: Log, at: int, size: int) -> Log:
    """The log with another history from entry `at` on, under the same key."""
    other = log.until(at)
    other.grow(drawn(random.Random(SEED + 1), size - at))
    return other


def test_a_whole_bundle_is_verified(log: Log, desk: Desk) -> None:
    code, report = desk.check(log.bundle())
    assert (code, report) == (
        0,
        {
            "verified": True,
            "origin": ORIGIN,
            "entries": 40,
            "root": report["root"],
            "kinds": {"audit": 14, "state": 26},
            "opened": 28,
            "withheld": 0,
            "witnessed": None,
            "not_checkable": [NOT_CHECKABLE],
        },
    )
    read = Bundle.read(log.bundle())
    assert read.entries == [json.loads(leaf.content) for leaf in log.leaves]
    assert (read.checkpoint, read.vkey) == (log.note(), None)


def test_a_log_of_nothing_is_verified_too(log: Log, desk: Desk) -> None:
    code, report = desk.check(log.bundle(0), witness=log.note(0))
    assert (code, report["entries"], report["not_checkable"]) == (0, 0, [NOT_CHECKABLE])


def test_what_is_withheld_is_counted(log: Log, desk: Desk) -> None:
    lines = log.bundle().split("\n")
    first = json.loads(lines[1])
    first["openings"] = dict.fromkeys(first["openings"])
    lines[1] = canonical(first).decode()
    code, report = desk.check("\n".join(lines))
    assert (code, report["opened"], report["withheld"]) == (0, 26, 2)


def test_2000_mutations_are_rejected(log: Log, desk: Desk) -> None:
    dice = random.Random(SEED)
    bundle, other = log.bundle(24).encode(), regrown(log, 13, 28).bundle().encode()
    assert (desk.check(bundle)[0], desk.check(other)[0]) == (0, 0)
    outcomes: Counter[int] = Counter()
    tried: Counter[str] = Counter()
    while tried.total() < 2000:
        mutation = MUTATIONS[tried.total() % len(MUTATIONS)]
        changed = mutation(dice, bundle, other)
        if changed in {bundle, other}:
            continue  # spliced from the other's first difference on: that is the other, unchanged
        code, report = desk.check(changed)
        assert code in {1, 64}, (SEED, mutation.__name__, tried.total())
        assert report["verified"] is False
        assert report["reason"]
        outcomes[code] += 1
        tried[mutation.__name__] += 1
    assert len(tried) == len(MUTATIONS)
    assert outcomes[1] > 1500  # only what is cut off at its end is "unusable"


def test_the_reason_names_the_line(log: Log, desk: Desk) -> None:
    lines = log.bundle().split("\n")
    lines[4], lines[5] = lines[5], lines[4]
    assert desk.check("\n".join(lines)) == (
        1,
        {"verified": False, "line": 5, "reason": "this is not entry 3: one was dropped, inserted or put elsewhere"},
    )


def test_a_witness_vouches_for_what_it_has_seen(log: Log, desk: Desk) -> None:
    held = log.note()
    log.grow(drawn(random.Random(SEED + 2), 20))
    cosigned = held + "— witness.example/w AAAAAAAA\n"
    for witness in (held, cosigned):
        code, report = desk.check(log.bundle(), witness)
        assert (code, report["witnessed"]) == (0, 40)
        assert report["not_checkable"] == ["entries 40 to 59 rest on the log's own signature: no witness has seen them"]
    code, report = desk.check(log.bundle(), log.note())
    assert report["not_checkable"] == ["entries that came after the witness's checkpoint and are not in this bundle"]


def test_a_cut_tail_with_an_older_checkpoint_needs_a_witness(log: Log, desk: Desk) -> None:
    cut = log.bundle(25)
    code, report = desk.check(cut)
    assert (code, report["entries"], report["not_checkable"]) == (0, 25, [NOT_CHECKABLE])
    code, report = desk.check(cut, log.note())
    assert (code, report["reason"]) == (
        1,
        "the witness holds a checkpoint of 40 entries, the bundle ends after 25",
    )


@pytest.mark.parametrize("held", [14, 25, 40])
def test_a_log_grown_otherwise_needs_a_witness(log: Log, desk: Desk, held: int) -> None:
    rolled_back = regrown(log, 13, 45).bundle()
    code, report = desk.check(rolled_back)
    assert (code, report["entries"], report["not_checkable"]) == (0, 45, [NOT_CHECKABLE])
    code, report = desk.check(rolled_back, log.note(held))
    assert code == 1
    assert report["reason"].startswith(f"the first {held} entries are not those of the witness's checkpoint")
    assert desk.check(rolled_back, log.note(13))[0] == 0  # before they parted


def test_keys_and_witnesses_of_others(log: Log, desk: Desk, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    same_name = Log.of(tmp_path / "other")
    assert desk.check(log.bundle(), key=same_name.key.vkey) == (
        1,
        {"verified": False, "line": 42, "reason": f"the checkpoint is not signed by the key {ORIGIN}"},
    )
    assert desk.check(log.bundle(), witness=same_name.note())[0] == 1
    forged = log.note().replace("\n40\n", "\n41\n")
    assert desk.check(log.bundle(), witness=forged)[0] == 1


def with_note(bundle: str, note: str) -> str:
    """The bundle with another checkpoint at its end, in canonical form."""
    return "\n".join([*bundle.split("\n")[:-2], canonical({"checkpoint": note}).decode(), ""])


def test_a_signature_has_one_form_and_stands_alone(log: Log, desk: Desk) -> None:
    """The same key, the same text, a signature that a lenient reader would take: each is another file, so rejected."""
    note = log.note()
    text, signature = note.rsplit(" ", 1)
    last = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    same_bytes = signature[:-3] + last[last.index(signature[-3]) ^ 1] + signature[-2:]
    assert base64.b64decode(same_bytes) == base64.b64decode(signature)
    raw = base64.b64decode(signature)
    other_hash = base64.b64encode(bytes([raw[0] ^ 1]) + raw[1:]).decode()
    for changed in (
        f"{text} {same_bytes}",
        f"{text} {other_hash}\n",
        f"{note}— other/log AAAAAAAA\n",
        note + note[-9:],
    ):
        assert desk.check(with_note(log.bundle(), changed))[0] == 1
    assert desk.check(with_note(log.bundle(), note))[0] == 0


def test_a_checkpoint_of_another_log_of_the_same_key_is_rejected(log: Log, desk: Desk) -> None:
    signed = Checkpoint.of(log.note())
    elsewhere = log.key.sign(Checkpoint("alih/elsewhere", signed.size, signed.root))
    bundle = with_note(log.bundle(), elsewhere).replace(f'"origin":"{ORIGIN}"', '"origin":"alih/elsewhere"', 1)
    assert desk.check(bundle) == (
        1,
        {"verified": False, "line": 42, "reason": f"the checkpoint is not one of the log {ORIGIN}"},
    )


def test_entries_that_are_fewer_than_signed_are_counted(log: Log, desk: Desk) -> None:
    lines = log.bundle().split("\n")
    del lines[30:-2]
    code, report = desk.check("\n".join(lines))
    assert (code, report["reason"]) == (1, "the checkpoint signs 40 entries, the bundle has 29")


def test_what_cannot_be_checked_is_said(log: Log, desk: Desk) -> None:
    whole = log.bundle()
    cases: dict[str, tuple[int, Any]] = {
        "the bundle is empty": desk.check(""),
        "the bundle was cut off: its last line has no end": desk.check(whole[:-30]),
        "the bundle does not end with a checkpoint": desk.check(whole[: whole.rindex('{"checkpoint"')]),
        "the key is no verifier key": desk.check(whole, key="alih+x+y"),
        "the key is no verifier key of Ed25519": desk.check(whole, key=desk.key.replace("small", "other")),
        "the key cannot be read: No such file": desk.check(whole, key=str(desk.directory / "none")),
        "the witness's file is no checkpoint": desk.check(whole, witness="hello"),
    }
    assert {start: (code, report["reason"].startswith(start)) for start, (code, report) in cases.items()} == (
        dict.fromkeys(cases, (64, True))
    )
    assert alih_verify.main([str(desk.directory / "none"), "--key", desk.key]) == 64
    assert desk.capture.readouterr().err == "the bundle cannot be read: No such file or directory\n"
    with pytest.raises(SystemExit, match="64"):
        alih_verify.main([])


@pytest.mark.parametrize("line", [b"[" * 100_000, b'{"leaf":' * 50_000, b'{"n":1e3}', b"\xff", b'"' * 9, b"9" * 9999])
def test_hostile_lines_are_rejected(log: Log, desk: Desk, line: bytes) -> None:
    lines = log.bundle().encode().split(b"\n")
    lines[3] = line
    code, report = desk.check(b"\n".join(lines))
    assert (code, report["line"]) == (1, 4)


def test_alih_reads_no_bundle_that_is_not_whole(log: Log, tmp_path: Path) -> None:
    whole = log.bundle()
    path = tmp_path / "bundle.jsonl"
    path.write_text(whole, encoding="utf-8")
    assert Bundle.read(path) == Bundle.read(whole)
    for broken in (whole[:-30], "", "{}\n", whole.replace('"holding"', '"drained"', 1), log.bundle(25) + whole):
        with pytest.raises(Refused):
            Bundle.read(broken)


def test_the_log_s_own_key_is_the_last_that_it_named(log: Log) -> None:
    log.grow([Entry("migration", {"public_key": key}) for key in ("old", log.key.vkey)])
    assert Bundle.read(log.bundle()).vkey == log.key.vkey


def test_as_a_process_of_its_own(log: Log, tmp_path: Path) -> None:
    """It runs from its file alone, and what it imports is the standard library's or `cryptography`."""
    (tmp_path / "log.vkey").write_text(f"{log.key.vkey}\n")
    alone = tmp_path / "verify.py"
    alone.write_bytes(Path(alih_verify.__file__).read_bytes())
    for name, bundle, code, says in (
        ("good", log.bundle(), 0, "verified: 40 entries of alih/small-world, none changed"),
        ("edited", log.bundle().replace('"holding"', '"drained"', 1), 1, "REJECTED: the entries are not those"),
        ("cut", log.bundle()[:-1], 64, "the bundle was cut off"),
    ):
        (tmp_path / name).write_text(bundle, encoding="utf-8")
        argv = [sys.executable, "-I", str(alone), str(tmp_path / name), "--key", str(tmp_path / "log.vkey")]
        ended = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False, cwd=tmp_path)
        assert (ended.returncode, (ended.stdout or ended.stderr).startswith(says)) == (code, True), ended
        assert (NOT_CHECKABLE in ended.stdout) is (code == 0)
    tree = ast.parse(alone.read_text(encoding="utf-8"))
    named = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    named |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in named} - sys.stdlib_module_names == {"cryptography"}
