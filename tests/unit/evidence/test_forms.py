"""The forms that strangers know: canonical JSON, tree hashes, notes, keys; and what an entry refuses to be."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import alih_verify
from alih.errors import Refused
from alih.evidence.canonical import Json, canonical
from alih.evidence.entry import Entry, Opening, leaf, stamp
from alih.evidence.merkle import Tree, leaf_hash
from alih.evidence.note import Checkpoint, SigningKey
from alih.model.side import Side

AT = datetime(2026, 11, 24, 8, 2, 3, 456_999, tzinfo=timezone(timedelta(hours=7)))

# From the tests of Certificate Transparency (RFC 6962): eight leaves, and the root after each.
LEAVES = ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
ROOTS = (
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)

# The example of golang.org/x/mod/sumdb/note.
PETER = "PRIVATE+KEY+PeterNeumann+c74f20a3+AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz"
PETERS_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
PETERS_TEXT = b"If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
PETERS_LINE = (
    "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
)

SAFE = 2**53 - 1
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-SAFE, SAFE) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize("size", range(len(ROOTS)))
def test_the_tree_is_that_of_rfc_6962_and_can_be_resumed_anywhere(size: int) -> None:
    hashes = [leaf_hash(bytes.fromhex(content)) for content in LEAVES[:size]]
    for pause in range(size + 1):
        tree = Tree()
        tree.extend(hashes[:pause])
        tree = Tree.resumed(tree.size, tree.peaks)
        tree.extend(hashes[pause:])
        assert (tree.size, tree.root.hex()) == (size, ROOTS[size])
    read = alih_verify.Tree()
    for content in LEAVES[:size]:
        read.append(bytes.fromhex(content))
    assert (read.size, read.root.hex()) == (size, ROOTS[size])


def test_names_are_sorted_as_in_rfc_8785() -> None:
    names = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    written = canonical(dict.fromkeys(names, 0))
    assert list(json.loads(written)) == ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]
    assert written.startswith(b'{"\\r":0,"1":0,')


@given(VALUES)
def test_the_verifier_writes_the_same_canonical_form(value: Json) -> None:
    assert alih_verify.canonical(json.loads(canonical(value))) == canonical(value)


@pytest.mark.parametrize("value", [0.5, float("nan"), b"x", {1: "x"}, {"a": [{"b": 1.0}]}, datetime.now(UTC), {1, 2}])
def test_what_is_no_json_or_a_float_is_no_fact(value: object) -> None:
    with pytest.raises(TypeError):
        Entry("score", {"total": value})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("facts", "secrets", "says"),
    [
        ({"total": 2**53}, {}, "safe integer"),
        ({"total": "\ud800"}, {}, "non-UTF-8"),
        ({}, {"sale": "\udfff"}, "non-UTF-8"),
        ({"n": 7}, {}, "facts of score are called n"),
        ({"at": "now"}, {}, "facts of score are called at"),
        ({"commitments": {}}, {}, "facts of score are called commitments"),
    ],
)
def test_what_could_not_become_a_leaf_is_refused_where_it_is_made(
    facts: Mapping[str, Json], secrets: Mapping[str, str], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        Entry("score", facts, secrets)


def test_a_leaf_to_the_byte() -> None:
    made = leaf(7, AT, Entry("state", {"tenant": "17", "side": Side.TARGET, "epoch": 3, "cut": None, "x": ("ü\0", 1)}))
    assert made.content.decode() == (
        '{"at":"2026-11-24T01:02:03.456Z","cut":null,"epoch":3,"kind":"state","n":7,"side":"target","tenant":"17",'
        '"x":["ü\\u0000",1]}'
    )
    assert made.openings == {}


def test_a_secret_is_a_salted_commitment_and_shows_nowhere() -> None:
    entry = Entry("trial", {"sale": "@sale"}, {"sale": "ORDER-17", "again": "ORDER-17"})
    made = leaf(0, AT, Entry.decode(entry.encode()))
    commitments = json.loads(made.content)["commitments"]
    assert commitments == {name: opening.commitment for name, opening in made.openings.items()}
    assert commitments["sale"] != commitments["again"]
    assert [opening.value for opening in made.openings.values()] == ["ORDER-17"] * 2
    assert not [text for text in (repr(entry), repr(made), made.content.decode()) if "ORDER-17" in text]
    assert Opening(bytes(16), "abc").commitment == "277e7ff6d232b9763f4a66e8d05d210da32dac9c6dbce1026ad4cc98acb5fefe"


def test_moments_are_utc_with_milliseconds() -> None:
    assert stamp(AT) == "2026-11-24T01:02:03.456Z"
    assert stamp(datetime(2026, 1, 1, tzinfo=UTC)) == "2026-01-01T00:00:00.000Z"


def test_keys_and_notes_are_those_of_the_go_tools(tmp_path: Path) -> None:
    path = tmp_path / "peter.key"
    path.write_text(f"{PETER}\n")
    path.chmod(0o600)
    peter = SigningKey.load_or_make(path, "PeterNeumann")
    assert peter.vkey == PETERS_VKEY
    assert alih_verify._signs(PETERS_TEXT, PETERS_LINE, alih_verify.Key.parse(PETERS_VKEY))
    note = peter.sign(Checkpoint("PeterNeumann", 0, bytes.fromhex(ROOTS[0])))
    assert note.startswith("PeterNeumann\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n— PeterNeumann x08go")
    assert peter.signed(note)
    assert Checkpoint.of(note) == Checkpoint("PeterNeumann", 0, bytes.fromhex(ROOTS[0]))


def test_a_key_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "evidence.key"
    made = SigningKey.load_or_make(path, "alih/one")
    assert (path.stat().st_mode & 0o777, [p.name for p in path.parent.iterdir()]) == (0o600, ["evidence.key"])
    assert SigningKey.load_or_make(path, "alih/one").vkey == made.vkey
    assert path.read_text().split("+", 4)[-1].strip() not in repr(made)
    with pytest.raises(Refused, match="is not the key of alih/two"):
        SigningKey.load_or_make(path, "alih/two")
    path.chmod(0o640)
    with pytest.raises(Refused, match="others can read the signing key"):
        SigningKey.load_or_make(path, "alih/one")
    path.chmod(0o600)
    path.write_text("PRIVATE+KEY+alih/one+00")
    with pytest.raises(Refused, match="holds no signing key"):
        SigningKey.load_or_make(path, "alih/one")
