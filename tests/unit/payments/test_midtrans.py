"""What a notice says, and who has signed it."""

import json
from datetime import UTC, datetime

import msgspec
import pytest

from alih.payments.custody import Unfit, arrived
from alih.payments.midtrans import Notice, signature, signed_by
from tests.support.custody_world import MARKETPLACE, PAYEES, SOCIAL, told


def test_a_signature_is_sha512_of_four_texts_one_after_another() -> None:
    # the digest is by coreutils' sha512sum
    assert signature("1111", "200", "100000.00", "askvnoibnosifnboseofinbofinfgbiufglnbfg") == (
        "edc076b21793ebe3e17926350f5b8ae67d902fe657b3d0aa31b932d5c127e237"
        "5d308a2bc94f3265ac2d80a1f181a79b997ac178a236fcff35af263fc4d4c231"
    )


def _notice(body: bytes) -> Notice:
    return msgspec.json.decode(body, type=Notice)


def test_the_key_tells_the_account() -> None:
    assert signed_by(_notice(told("ORDER-1")), PAYEES) is SOCIAL
    assert signed_by(_notice(told("ORDER-1", payee=MARKETPLACE)), PAYEES) is MARKETPLACE


@pytest.mark.parametrize(
    "change",
    [
        {"order_id": "ORDER-2"},
        {"status_code": "201"},
        {"gross_amount": "145000.0"},
        {"gross_amount": "145001.00"},
        {"signature_key": ""},
        {"signature_key": "é" * 128},
        {"signature_key": json.loads(told("ORDER-1"))["signature_key"].upper()},
    ],
)
def test_whatever_the_signature_covers_cannot_be_changed(change: dict[str, str]) -> None:
    changed = json.dumps(json.loads(told("ORDER-1")) | change).encode()
    assert signed_by(_notice(changed), PAYEES) is None
    with pytest.raises(Unfit, match="bad_signature"):
        arrived("17", "/", changed, PAYEES)


def test_amounts_are_whole_rupiah_and_times_those_of_jakarta() -> None:
    refunds = [{"refund_key": "a", "refund_amount": "5000.00"}, {"refund_key": "b", "refund_amount": "5000"}]
    status = _notice(told("ORDER-1", "partial_refund", refunds=refunds)).status()
    assert (status.gross_idr, status.refunds, status.refunded_idr) == (145_000, (("a", 5_000), ("b", 5_000)), 10_000)
    assert status.settled
    assert status.settled_at == datetime(2026, 11, 24, 1, 0, tzinfo=UTC)


@pytest.mark.parametrize("state", ["pending", "expire", "cancel", "deny"])
def test_other_states_are_not_settled(state: str) -> None:
    assert not _notice(told("ORDER-1", state)).status().settled


@pytest.mark.parametrize(
    "amount", ["", "-1", "1.50", "1e5", "1E+999999999", "٣", "NaN", "1\n", "0" * 16, " 1", "1.000"]
)
def test_what_is_no_whole_rupiah_is_no_notice(amount: str) -> None:
    with pytest.raises(Unfit, match="no_notice"):
        arrived("17", "/", told("ORDER-1", gross_amount=amount), PAYEES)


def test_bodies_are_one_if_their_canonical_form_is() -> None:
    body = json.loads(told("ORDER-1", extra=[1, 2.5, None, {"é": True}]))
    spaced = json.dumps(dict(reversed(body.items())), indent=3, ensure_ascii=False).encode()
    assert arrived("17", "/", json.dumps(body).encode(), PAYEES).sha256 == arrived("17", "/", spaced, PAYEES).sha256
    other = json.dumps(body | {"extra": [1, "2.5", None, {"é": True}]}).encode()
    assert arrived("17", "/", spaced, PAYEES).sha256 != arrived("17", "/", other, PAYEES).sha256
