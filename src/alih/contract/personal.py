"""Columns whose names look like personal data (UU PDP, Law 27/2022, article 4): what the contract must class.

Names only; what the values look like is for the leak detectors. A false alarm costs one word in the contract.
"""

import re
from collections.abc import Iterable

from alih.model.contract import PersonalData

_SPECIFIC = frozenset({
    "card", "kartu", "pan", "cvv", "rekening", "norek", "iban", "health", "kesehatan", "biometric", "biometrik",
    "religion", "agama", "child", "anak",
})  # fmt: skip
_GENERAL = frozenset({
    "phone", "telp", "telepon", "hp", "handphone", "ponsel", "mobile", "msisdn", "wa", "whatsapp", "email", "mail",
    "surel", "nik", "ktp", "npwp", "nip", "passport", "paspor", "kk", "address", "alamat", "street", "jalan",
    "postcode", "kodepos", "dob", "birth", "birthdate", "birthday", "lahir", "gender", "kelamin", "ip",
    "firstname", "lastname", "fullname",
})  # fmt: skip
_PERSONS = frozenset({
    "first", "last", "full", "middle", "buyer", "customer", "recipient", "receiver", "contact", "owner", "user",
    "person", "sender", "member", "seller", "nickname", "pembeli", "penerima", "pemilik", "pelanggan", "pengguna",
    "pengirim", "anggota", "lengkap", "panggilan",
})  # fmt: skip
_NAMES = frozenset({"name", "nama"})
_ACCOUNTS = re.compile(r"(account|acct|akun)_?(no|num|number|nomor)|bank_?account|(no|nomor)_?(rek|rekening)")


def personal_class(column: str, table: str) -> PersonalData | None:
    """The class that the name of `column` of `table` suggests, or None."""
    words = _words(column)
    if words & _SPECIFIC or _ACCOUNTS.search(column.lower()):
        return PersonalData.SPECIFIC
    if words & _GENERAL or (words & _NAMES and (words & _PERSONS or _is_about_persons(table, words))):
        return PersonalData.GENERAL
    return None


def strongest(classes: Iterable[PersonalData | None]) -> PersonalData | None:
    """Specific if any is, then general, then None."""
    found = set(classes)
    return next((c for c in (PersonalData.SPECIFIC, PersonalData.GENERAL) if c in found), None)


def _is_about_persons(table: str, words: frozenset[str]) -> bool:
    """Whether a bare `name` in `table` is somebody's."""
    return words <= _NAMES and bool({w.removesuffix("s") for w in _words(table)} & _PERSONS)


def _words(name: str) -> frozenset[str]:
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name)
    return frozenset(w for w in re.split(r"[^a-z]+", spaced.lower()) if w)
