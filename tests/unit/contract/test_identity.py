"""What ids become on the target, and what keeps its value at the source: loading, checking, compiling."""

from dataclasses import replace
from pathlib import Path

import pytest

from alih.contract import compile, rehearse
from alih.model.contract import Coded, Shifted
from alih.model.projection import Assignment
from tests.unit.contract.shop import (
    ORDERS,
    PESANAN,
    SOURCE,
    TARGET,
    TEXT,
    catalog,
    checked,
    column,
    exchanged,
    line_of,
    loaded,
    refusal,
    spoilt,
    with_column,
)

OFFSET = spoilt(
    "fields: {pesanan_id: order_id,",
    "fields: {pesanan_id: {offset: orders, from: order_id},",
    spoilt("      id: order_id\n", "      id: {offset: orders, from: order_id}\n", spoilt(
        "    purpose: fulfil", "    offset: 5000\n    purpose: fulfil")),
)  # fmt: skip
KEPT = spoilt(
    "    not_moved: {internal_note",
    "    keep: {address: addresses have more than a phone, status: old states}\n    not_moved: {internal_note",
    spoilt("map: {UNPAID: 100, CANCELLED: 0}", "map: {UNPAID: 100, HELD: 100, CANCELLED: 0}, else: 7"),
)


def assignment(directory: Path, text: str, entity: str, name: str, *, back: bool) -> Assignment:
    both = compile(loaded(directory, text), catalog(*SOURCE), catalog(*TARGET))
    projection = next(p for p in (both.reverse if back else both.forward) if p.entity == entity)
    return next(a for a in projection.assignments if a.column == name)


def test_ids_that_are_offset_and_references_to_them(tmp_path: Path) -> None:
    assert checked(tmp_path, OFFSET) == []
    orders = loaded(tmp_path, OFFSET).entity("orders")
    assert (orders.offset, orders.fields[0].rule) == (5000, Shifted(source="order_id", entity="orders", by=5000))
    there = assignment(tmp_path, OFFSET, "lines", "pesanan_id", back=False)
    back = assignment(tmp_path, OFFSET, "lines", "order_id", back=True)
    assert there.sql == '((r."order_id")::numeric + 5000)::bigint'
    assert back.sql == '((r."pesanan_id")::numeric - 5000)::bigint'


def test_an_offset_may_lead_down(tmp_path: Path) -> None:
    text = OFFSET.replace("offset: 5000", "offset: -5000")
    assert assignment(tmp_path, text, "orders", "id", back=False).sql == '((r."order_id")::numeric - 5000)::bigint'
    assert assignment(tmp_path, text, "orders", "order_id", back=True).sql == '((r."id")::numeric + 5000)::bigint'


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("{offset: orders, from: order_id},", "{offset: shops, from: order_id},", "offset: shops has no offset"),
        ("{offset: orders, from: order_id},", "{offset: ghosts, from: order_id},", "offset: there is no entity ghosts"),
        ("    offset: 5000\n", "    offset: 0\n", "offset: moves no id"),
        ("    offset: 5000\n", "    offset: 5000\n    link: SELECT 1, 2\n", "offset: stands beside a link"),
        ("    link: \"SELECT", "    keep: {name: x}\n    not_moved: {name: y}\n    link: \"SELECT",
         "keep.name: stands under not_moved too"),
    ],
)  # fmt: skip
def test_what_loading_refuses(tmp_path: Path, old: str, new: str, problem: str) -> None:
    found = refusal(tmp_path, spoilt(old, new, OFFSET))
    assert any(problem in line for line in found), found


def test_a_plain_reference_to_ids_that_become_others_is_refused(tmp_path: Path) -> None:
    text = spoilt("fields: {pesanan_id: {offset: orders, from: order_id},", "fields: {pesanan_id: order_id,", OFFSET)
    assert checked(tmp_path, text) == [
        f"alih.yaml:{line_of(text, '  lines:')}: entities.lines.tenant.column: no field carries order_id the way"
        " orders.id is made → map it as the parent's key is mapped",
        f"alih.yaml:{line_of(text, 'pesanan_id: order_id')}: entities.lines.fields.pesanan_id: holds ids of orders,"
        " which are others on the target → write {offset: orders, from: order_id}",
    ]


def test_only_whole_numbers_are_offset(tmp_path: Path) -> None:
    target = exchanged(TARGET, with_column(PESANAN, column("id", "text")))
    (problem,) = checked(tmp_path, OFFSET, target=target)
    assert "entities.orders.fields.id: id is text → an offset is for whole numbers: use `link`" in problem


def test_several_codes_that_become_one_come_back_as_the_first(tmp_path: Path) -> None:
    rule = loaded(tmp_path, KEPT).entity("orders").fields[2].rule
    assert isinstance(rule, Coded)
    assert rule.back == {"100": "UNPAID", "0": "CANCELLED", "103": "UNPAID"}
    sql = assignment(tmp_path, KEPT, "orders", "status", back=False).sql
    assert sql == (
        "(CASE (r.\"status\")::text WHEN 'UNPAID' THEN '100' WHEN 'HELD' THEN '100' WHEN 'CANCELLED' THEN '0'"
        " ELSE CASE WHEN (r.\"status\")::text IS NOT NULL THEN '7' END END)::integer"
    )


def test_what_is_kept_is_kept_while_what_crossed_of_it_is_unchanged(tmp_path: Path) -> None:
    assert checked(tmp_path, KEPT) == []
    address = assignment(tmp_path, KEPT, "orders", "address", back=True)
    there, back = "((w.\"address\"->>'phone'))::text", "((jsonb_build_object('phone', {})))::jsonb"
    assert address.sql == back.format('r."buyer_phone"')
    assert address.update == (
        f'CASE WHEN ({there})::text IS NOT DISTINCT FROM (r."buyer_phone")::text'
        f' THEN w."address" ELSE {address.sql} END'
    )
    assert address.returned == back.format(f"({there})")
    assert address.inputs == {"buyer_phone"}
    assert assignment(tmp_path, KEPT, "orders", "order_id", back=True).update is None


def test_columns_that_are_made_into_one_are_kept_together(tmp_path: Path) -> None:
    """Else one would keep its value beside a new one of the other, and the two would mean something else."""
    text = spoilt("{from: status, map", "{from: state, map", KEPT).replace("status: old states", "state: old states")
    text = spoilt("\"address->>'phone'\"", "\"address->>'phone' || status\"", text)
    text = spoilt("      address: ", '      status: "right(buyer_phone, 1)"\n      address: ', text)
    source = exchanged(SOURCE, with_column(ORDERS, column("state", "text")))
    assert checked(tmp_path, text, source=source) == []
    projections = compile(loaded(tmp_path, text), catalog(*source), catalog(*TARGET)).reverse
    (address,) = (a for p in projections for a in p.assignments if a.column == "address")
    assert address.inputs == {"buyer_phone"}
    assert 'w."address"->>\'phone\' || w."status"' in str(address.update)


def test_a_literal_default_of_the_target_counts_on_the_way_back(tmp_path: Path) -> None:
    text = spoilt("jsonb_build_object('phone', buyer_phone)", "jsonb_build_object('phone', buyer_phone, 'v', ver)")
    ver = column("ver", "integer", default="'3'::integer")
    for default, expected in (("'3'::integer", "'3'::integer"), ("nextval('s'::regclass)", "NULL")):
        target = exchanged(TARGET, with_column(PESANAN, replace(ver, default=default)))
        projections = compile(loaded(tmp_path, text), catalog(*SOURCE), catalog(*target)).reverse
        (address,) = (a for p in projections for a in p.assignments if a.column == "address")
        assert f"'v', (({expected})::integer)" in str(address.returned)


@pytest.mark.parametrize(
    ("keep", "problem"),
    [
        ("order_id: x", "keep.order_id: tells which row it is, or whose"),
        ("shop_id: x", "keep.shop_id: tells which row it is, or whose"),
        ("ghost: x", "keep.ghost: public.orders has no column ghost"),
    ],
)
def test_what_cannot_be_kept(tmp_path: Path, keep: str, problem: str) -> None:
    text = spoilt("    not_moved: {internal_note", f"    keep: {{{keep}}}\n    not_moved: {{internal_note")
    assert any(problem in line for line in checked(tmp_path, text))


def test_questions_are_asked_only_where_the_contract_proves_nothing(tmp_path: Path) -> None:
    asked = {r.entity: r for r in rehearse(loaded(tmp_path, TEXT), catalog(*SOURCE), catalog(*TARGET))}
    assert [q.what for q in asked["orders"].questions] == [
        "shop_id refers to a row of shops that is not linked",
        "the map of status does not list the code",
        "amount_idr can be made",
        "amount_idr would be NULL, which the target refuses",
        "buyer_phone can be made",
        "total_amount would not come back as it is",
        "address would not come back as it is",
    ]
    assert [q.what for q in asked["lines"].questions] == []
    assert [str(u) for u in asked["lines"].uniques] == ["(pesanan_id, no)"]
    assert not asked["lines"].uniques[0].alike
