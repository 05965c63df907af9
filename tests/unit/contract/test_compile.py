"""The compiled SQL, both ways, for hand-made catalogs. What it does to rows is for tests/integration/contract."""

from pathlib import Path

from alih.contract import Projections, compile
from alih.model.contract import Scope
from alih.model.projection import Assignment, ParentRow, Projection, ReadColumn
from tests.unit.contract.shop import SOURCE, TARGET, TEXT, catalog, loaded, spoilt

LINK_THERE = "(SELECT l.target_id FROM alih.link l WHERE l.entity = 'shops' AND l.source_id = (r.\"shop_id\")::text)"
LINK_BACK = (
    "(SELECT l.source_id FROM alih.link l WHERE l.entity = 'shops' AND l.target_id = ({}.\"merchant_id\")::text)"
)


def compiled(directory: Path, text: str = TEXT) -> Projections:
    return compile(loaded(directory, text), catalog(*SOURCE), catalog(*TARGET))


def of(projections: tuple[Projection, ...], entity: str) -> Projection:
    return next(p for p in projections if p.entity == entity)


def test_parents_come_before_children_in_both_directions(tmp_path: Path) -> None:
    both = compiled(tmp_path)
    assert [p.entity for p in both.forward] == ["orders", "lines", "shops"]
    assert [p.entity for p in both.reverse] == ["orders", "lines", "shops"]


def test_forward_reads_what_crosses_and_nothing_else(tmp_path: Path) -> None:
    orders = of(compiled(tmp_path).forward, "orders")
    assert orders.read_columns == (
        ReadColumn("order_id", "bigint", True, "bigint"),
        ReadColumn("shop_id", "bigint", False, "bigint"),
        ReadColumn("status", "text", False, "text"),
        ReadColumn("total_amount", "numeric", False, "numeric"),
        ReadColumn("address", "jsonb", False, "jsonb"),
    )
    same = [
        ("id", "bigint", '(r."order_id")::bigint', {"order_id"}, True),
        ("merchant_id", "bigint", f"({LINK_THERE})::bigint", {"shop_id"}, False),
        (
            "status",
            "integer",
            "(CASE (r.\"status\")::text WHEN 'UNPAID' THEN '100' WHEN 'CANCELLED' THEN '0' END)::integer",
            {"status"},
            False,
        ),
        ("amount_idr", "bigint", '((r."total_amount"::bigint))::bigint', {"total_amount"}, False),
        ("buyer_phone", "text", "((r.\"address\"->>'phone'))::text", {"address"}, False),
        ("channel", "text", "(('social'))::text", set(), False),
    ]
    assert orders.assignments == tuple(Assignment(c, t, sql, frozenset(i), k, sql) for c, t, sql, i, k in same)
    assert (orders.reads_ours, orders.writes_ours) == (None, "(w.\"channel\" = 'social')")
    assert orders.tenant_read == '(r."shop_id")::text'
    back = f"((({LINK_BACK.format('w')})::bigint)::text)"
    assert orders.tenant_write == f"(CASE WHEN (w.\"channel\" = 'social') THEN {back[1:-1]} END)"
    assert orders.links == {"shops"}


def test_reverse_gives_every_moved_column_back_and_touches_no_other(tmp_path: Path) -> None:
    orders = of(compiled(tmp_path).reverse, "orders")
    assert [(a.column, a.type, a.sql) for a in orders.assignments] == [
        ("order_id", "bigint", '(r."id")::bigint'),
        ("shop_id", "bigint", f"({LINK_BACK.format('r')})::bigint"),
        (
            "status",
            "text",
            "(CASE (r.\"status\")::text WHEN '100' THEN 'UNPAID' WHEN '0' THEN 'CANCELLED'"
            " WHEN '103' THEN 'UNPAID' END)::text",
        ),
        ("total_amount", "numeric(18,2)", '((r."amount_idr"::numeric(18,2)))::numeric(18,2)'),
        ("address", "jsonb", "((jsonb_build_object('phone', r.\"buyer_phone\")))::jsonb"),
    ]
    assert [c.name for c in orders.read_columns] == [
        "id",
        "merchant_id",
        "status",
        "amount_idr",
        "buyer_phone",
        "channel",
    ]
    assert (orders.reads_ours, orders.writes_ours) == ("(r.\"channel\" = 'social')", None)
    assert orders.tenant_write == '(w."shop_id")::text'


def test_a_child_finds_its_tenant_through_its_parent(tmp_path: Path) -> None:
    both = compiled(tmp_path)
    there, back = of(both.forward, "lines"), of(both.reverse, "lines")
    assert there.parent == ParentRow("orders", "order_id", "order_id", "pesanan_id", "id")
    assert back.parent == ParentRow("orders", "pesanan_id", "id", "order_id", "order_id")
    parent = '(SELECT (p1."shop_id")::text FROM "public"."orders" p1 WHERE p1."order_id" = {}."order_id")'
    assert (there.tenant_read, back.tenant_write) == (parent.format("r"), parent.format("w"))
    assert there.tenant_write is not None
    assert back.tenant_read == there.tenant_write.replace('w."pesanan_id"', 'r."pesanan_id"')
    assert "CASE WHEN (p1.\"channel\" = 'social')" in there.tenant_write
    assert [c.name for c in there.read_key] == ["order_id", "line_no"]
    assert [a.column for a in there.write_key] == ["pesanan_id", "no"]


def test_what_is_too_long_is_refused_by_the_column_and_not_cut_by_a_cast(tmp_path: Path) -> None:
    title = of(compiled(tmp_path).forward, "shops").assignments[1]
    assert (title.type, title.sql) == ("character varying(40)", '(r."name")::character varying')


def test_shared_rows_have_no_tenant_and_reference_rows_no_way_back(tmp_path: Path) -> None:
    shared = compiled(tmp_path, spoilt("tenant: {via: orders, column: order_id}", "scope: shared"))
    lines = of(shared.reverse, "lines")
    assert (lines.scope, lines.tenant_read, lines.tenant_write, lines.parent) == (Scope.SHARED, None, None, None)
    reference = compiled(tmp_path, spoilt("tenant: {via: orders, column: order_id}", "scope: reference"))
    assert [p.entity for p in reference.forward] == ["orders", "lines", "shops"]
    assert [p.entity for p in reference.reverse] == ["orders", "shops"]


def test_columns_with_odd_names_are_quoted(tmp_path: Path) -> None:
    text = spoilt('{sql: "total_amount::bigint",', "{sql: '\"total_amount\"::bigint',")
    assert of(compiled(tmp_path, text).forward, "orders").assignments[3].sql == '((r."total_amount"::bigint))::bigint'
