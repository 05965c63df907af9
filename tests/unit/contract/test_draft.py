"""A first contract from two catalogs: equal tables as they are, every guess marked."""

from dataclasses import replace
from pathlib import Path

import pytest

from alih.contract import check, draft, load
from alih.model.catalog import Catalog, TableInfo, TableKind
from tests.unit.contract.shop import AUDIT, ORDERS, SHOPS, catalog, column, table, with_column

ENVIRON = {"ALIH_SOURCE": "host=a", "ALIH_TARGET": "host=b"}


def problems(directory: Path, text: str, source: Catalog, target: Catalog) -> list[str]:
    file = directory / "alih.yaml"
    file.write_text(text, encoding="utf-8")
    return [str(p) for p in check(load(file, ENVIRON), source, target)]


def test_equal_tables_need_no_hand(tmp_path: Path) -> None:
    both = catalog(SHOPS, ORDERS)
    text = draft("equal", both, both)
    assert problems(tmp_path, text, both, both) == []
    assert "      address: {from: address, data: general}  # decide: classed by its name\n" in text


def test_the_whole_text() -> None:
    source = catalog(with_column(SHOPS, column("old", "text", not_null=False)), AUDIT)
    target = catalog(with_column(SHOPS, column("must", "text")))
    assert draft("small", source, target) == (
        "# What crosses from the source to the target, and why. A draft: look at every line that says `decide`.\n"
        "migration: small\n"
        "source: {kind: postgres, dsn: $ALIH_SOURCE}\n"
        "target: {kind: postgres, dsn: $ALIH_TARGET}\n"
        "entities:\n"
        "  shops:\n"
        "    from: shops\n"
        "    to: shops\n"
        "    key: {shop_id: shop_id}\n"
        "    scope: shared  # decide: or `tenant: column`, {via: entity, column: column}, `scope: reference`\n"
        "    purpose: the same table on both sides  # decide:\n"
        "    fields:\n"
        "      shop_id: shop_id\n"
        "      name: name\n"
        "      # decide: must is NOT NULL on the target and the source has nothing for it\n"
        "    not_moved:\n"
        "      old: the target has no column for it  # decide:\n"
        "tables_not_moved:\n"
        '  audit_log: "no primary key: to move it, add one at the source and the target, then draft again"\n'
    )


def test_odd_names_come_out_quoted_and_are_read_again(tmp_path: Path) -> None:
    odd = table("Weird: table", ("the key",), column("the key", "bigint"), column("true", "text"), column("7", "text"))
    both = catalog(odd)
    assert problems(tmp_path, draft("odd", both, both), both, both) == []


REASONS = [
    (replace(SHOPS, kind=TableKind.FOREIGN), '"its rows are in another server"  # decide:'),
    (replace(SHOPS, inherits=True), '"inheritance is not offered yet"  # decide:'),
    (replace(SHOPS, primary_key=("name",)), '"the two tables have no key in common"  # decide:'),
]


@pytest.mark.parametrize(("source", "reason"), REASONS, ids=["foreign", "inherits", "no key in common"])
def test_what_cannot_move_stays_with_its_reason(source: TableInfo, reason: str) -> None:
    assert draft("x", catalog(source), catalog(SHOPS)).endswith(f"tables_not_moved:\n  shops: {reason}\n")


def test_a_table_without_a_twin() -> None:
    assert draft("x", catalog(SHOPS), catalog()).endswith(
        'entities: {}  # decide:\ntables_not_moved:\n  shops: "the target has no table of this name"  # decide:\n'
    )


def test_a_cast_that_loses_is_marked() -> None:
    target = catalog(with_column(SHOPS, column("name", "date")))
    source = catalog(with_column(SHOPS, column("name", "timestamp with time zone")))
    assert "      name: name  # decide: timestamp with time zone to date: loses the time of day\n" in draft(
        "x", source, target
    )
