"""What a contract may not say about two databases: one test for each refusal, exact text and line."""

from dataclasses import replace
from pathlib import Path

import pytest

from alih.contract import lineage
from alih.contract.lineage import LineageRow
from alih.model.catalog import ForeignKey, ReplicaIdentity, TableInfo, TableKind
from alih.model.contract import PersonalData, Table
from tests.unit.contract.shop import (
    LINES,
    ORDERS,
    SHOPS,
    SOURCE,
    TARGET,
    TEXT,
    TOKO,
    catalog,
    checked,
    column,
    exchanged,
    line_of,
    loaded,
    spoilt,
    with_column,
)

ORDERS_LINE = line_of(TEXT, "  orders:")


def test_a_right_contract_has_no_problem(tmp_path: Path) -> None:
    assert checked(tmp_path) == []


TEXTS = [
    (
        "{internal_note: never shown to anyone}",
        "{}",
        "  orders:",
        "entities.orders.fields: the source's column internal_note is neither mapped nor listed under "
        "not_moved → map it, or add `not_moved: {internal_note: reason}`",
    ),
    (
        "{internal_note: never",
        "{status: old, internal_note: never",
        "  orders:",
        "entities.orders.not_moved.status: is not to move, but status reads it → keep one of the two",
    ),
    (
        "{audit_log: stays for the auditor}",
        "{}",
        None,
        "tables_not_moved: the source's table public.audit_log is neither an entity nor listed here → make "
        "it an entity, or add `audit_log: reason`",
    ),
    (
        "{audit_log: stays",
        "{shops: twice, audit_log: stays",
        None,
        "tables_not_moved.public.shops: is an entity as well → keep one of the two",
    ),
    (
        "{audit_log: stays",
        "{ghosts: gone, audit_log: stays",
        None,
        "tables_not_moved.public.ghosts: the source has no such table → correct or remove it",
    ),
    (
        "to: toko",
        "to: gerai",
        "  shops:",
        "entities.shops.to: the target has no table public.gerai → correct the name, or schema.name; "
        "`--create-target` makes identical tables",
    ),
    (
        "title: name",
        "title: nama",
        "title: nama",
        "entities.shops.fields.title: public.shops has no column nama → correct the name",
    ),
    (
        "title: name",
        "title: upper(name)",
        "title: upper",
        "entities.shops.fields.title: public.shops has no column upper(name) → write an expression under `sql:`",
    ),
    (
        "title: name",
        "judul: name",
        "judul: name",
        "entities.shops.fields.judul: public.toko has no column judul → correct the name",
    ),
    (
        "total_amount::bigint",
        "amount::bigint",
        "amount_idr:",
        "entities.orders.fields.amount_idr: public.orders has no column amount → correct the name",
    ),
    (
        "channel = 'social'",
        "kanal = 'social'",
        "  orders:",
        "entities.orders.ours: public.pesanan has no column kanal → use columns of the target's table",
    ),
    (
        "'phone', buyer_phone)",
        "'phone', phone)",
        "  orders:",
        "entities.orders.reverse.address: public.pesanan has no column phone → use columns of the target's table",
    ),
    (
        "amount_idr::numeric",
        "amount::numeric",
        "amount_idr:",
        "entities.orders.fields.amount_idr: public.pesanan has no column amount → use columns of the target's table",
    ),
    (
        "      channel: {value: social}\n",
        "",
        "  orders:",
        "entities.orders.fields: the target's column channel is NOT NULL without a default, and nothing "
        "fills it → add a field `channel: …`, or give the column a default",
    ),
    (
        ', reverse: "amount_idr::numeric(18,2)"',
        "",
        "  orders:",
        "entities.orders.reverse: the source's column total_amount is NOT NULL without a default and has "
        "no way back → add `reverse: {total_amount: SQL over target columns}`",
    ),
    (
        "address->>'phone'\", data: general",
        "address->>'phone'\"",
        "buyer_phone:",
        "entities.orders.fields.buyer_phone: looks like personal data and has no class → add `data: general`",
    ),
    (
        "total_amount::bigint",
        "total_amount::bigint + length(status)",
        "amount_idr:",
        "entities.orders.fields.amount_idr: gives back one source column but is not made of exactly one → "
        "write the way back of each column under the entity's `reverse:`",
    ),
    (
        "key: {order_id: id}",
        "key: {shop_id: id}",
        "  orders:",
        "entities.orders.key: (shop_id) is no key of the source's table public.orders → its keys are (order_id)",
    ),
    (
        "    tenant: shop_id\n    ours",
        "    tenant: seller\n    ours",
        "  orders:",
        "entities.orders.tenant: public.orders has no column seller → name the column with the tenant's "
        "id, or {via: …}",
    ),
    (
        "tenant: {via: orders, column: order_id}",
        "tenant: {via: orders, column: line_no}",
        "  lines:",
        "entities.lines.tenant.column: line_no is no foreign key to public.orders (order_id) → ALTER TABLE "
        '"public"."order_lines" ADD FOREIGN KEY ("line_no") REFERENCES "public"."orders"',
    ),
    (
        "{pesanan_id: order_id, no",
        "{pesanan_id: {sql: order_id + 0, reverse: pesanan_id}, no",
        "pesanan_id: {sql",
        "entities.lines.tenant.column: no field carries order_id the way orders.id is made → map it as the "
        "parent's key is mapped",
    ),
    (
        "      id: order_id\n",
        "      id: {value: 7}\n",
        "      id:",
        "entities.orders.fields.id: the key column id is not made of order_id alone → write `id: "
        "order_id`, or correct `key`",
    ),
]


@pytest.mark.parametrize(("old", "new", "where", "says"), TEXTS, ids=[f"{i}-{t[1][:20]}" for i, t in enumerate(TEXTS)])
def test_a_wrong_text_is_refused(tmp_path: Path, old: str, new: str, where: str | None, says: str) -> None:
    text = spoilt(old, new)
    found = checked(tmp_path, text)
    line = 1 if where is None else line_of(text, where)
    lines_of_entity = {f"alih.yaml:{line}: {says}", f"alih.yaml:{line_of(text, '  lines:')}: {says}"}
    assert [p for p in found if p.endswith(says)] == [p for p in found if p in lines_of_entity]
    assert lines_of_entity & set(found)


SOURCES = [
    (
        replace(ORDERS, partition=True),
        "from: public.orders is a partition → name the partitioned table at the top: its rows cross as one table's",
    ),
    (
        replace(ORDERS, inherits=True),
        "from: public.orders is part of an inheritance tree → name a plain table; this kind is not offered yet",
    ),
    (
        replace(ORDERS, kind=TableKind.VIEW),
        "from: public.orders is a view → name a plain table; this kind is not offered yet",
    ),
    (
        replace(ORDERS, primary_key=(), identity_columns=("order_id",)),
        'key: the source\'s table public.orders has no key → ALTER TABLE "public"."orders" ADD PRIMARY KEY (…)',
    ),
    (
        replace(ORDERS, kind=TableKind.PARTITIONED, odd_partitions=("public.orders_2023", "public.orders_2024")),
        "key: partitions of public.orders are foreign tables, or have another REPLICA IDENTITY than it: "
        "public.orders_2023, public.orders_2024 → give each partition the identity of public.orders, and bring "
        "foreign rows into it",
    ),
    (
        replace(ORDERS, replica_identity=ReplicaIdentity.NOTHING, identity_columns=()),
        "key: public.orders has REPLICA IDENTITY NOTHING: its deletes cannot be followed → ALTER TABLE "
        '"public"."orders" REPLICA IDENTITY DEFAULT',
    ),
    (
        replace(ORDERS, replica_identity=ReplicaIdentity.FULL, identity_columns=()),
        "key: public.orders has REPLICA IDENTITY FULL: beside a list of columns the shop's own updates "
        'would fail → ALTER TABLE "public"."orders" REPLICA IDENTITY DEFAULT',
    ),
    (
        replace(ORDERS, replica_identity=ReplicaIdentity.INDEX, identity_columns=("shop_id",)),
        "key: the log of public.orders names deleted rows by (shop_id) → use that key, or ALTER TABLE "
        '"public"."orders" REPLICA IDENTITY USING INDEX … on (order_id)',
    ),
    (
        with_column(ORDERS, column("status", "text", generated=True)),
        "fields: public.orders.status is generated, and the log does not carry it → map the columns that it is "
        "made of, in an expression",
    ),
    (
        with_column(ORDERS, column("internal_note", "text")),
        "reverse: the source's column internal_note is NOT NULL without a default and has no way back → "
        "give the column a default",
    ),
    (
        with_column(ORDERS, column("shop_id", "bigint", not_null=False)),
        'tenant: shop_id may be NULL: such a row would belong to nobody → ALTER TABLE "public"."orders" '
        'ALTER COLUMN "shop_id" SET NOT NULL',
    ),
]


@pytest.mark.parametrize(
    ("orders", "says"), SOURCES, ids=[s.split(":")[0] + str(i) for i, (_, s) in enumerate(SOURCES)]
)
def test_a_table_that_does_not_fit_is_refused(tmp_path: Path, orders: TableInfo, says: str) -> None:
    found = checked(tmp_path, source=exchanged(SOURCE, orders))
    assert found == [f"alih.yaml:{ORDERS_LINE}: entities.orders.{says}"]


def test_the_target_has_to_name_deleted_rows_too(tmp_path: Path) -> None:
    nothing = replace(TOKO, replica_identity=ReplicaIdentity.NOTHING, identity_columns=())
    assert checked(tmp_path, target=exchanged(TARGET, nothing)) == [
        f"alih.yaml:{line_of(TEXT, '  shops:')}: entities.shops.key: public.toko has REPLICA IDENTITY NOTHING:"
        ' its deletes cannot be followed → ALTER TABLE "public"."toko" REPLICA IDENTITY DEFAULT'
    ]


LOSSES = [
    ("numeric(18,2)", "bigint", "rounds"),
    ("numeric", "numeric(18,2)", "rounds"),
    ("numeric(18,4)", "numeric(18,2)", "rounds"),
    ("double precision", "real", "rounds"),
    ("timestamp with time zone", "timestamp without time zone", "depends on the session's time zone"),
    ("timestamp with time zone", "date", "loses the time of day"),
    ("numeric(18,0)", "bigint", None),
    ("numeric(18,2)", "numeric(20,4)", None),
    ("integer", "bigint", None),
    ("text", "character varying(40)", None),
]


@pytest.mark.parametrize(("source", "target", "loss"), LOSSES)
def test_a_plain_cast_that_loses_in_silence_is_refused(
    tmp_path: Path, source: str, target: str, loss: str | None
) -> None:
    shops = with_column(SHOPS, column("name", source))
    toko = with_column(TOKO, column("title", target))
    found = checked(tmp_path, source=exchanged(SOURCE, shops), target=exchanged(TARGET, toko))
    assert [f"{source} to {target} {loss} → say how" in p for p in found] == ([] if loss is None else [True])


def test_two_fields_that_could_give_one_column_back(tmp_path: Path) -> None:
    toko = with_column(TOKO, column("label", "text"))
    found = checked(tmp_path, spoilt("title: name", "title: name\n      label: name"), target=exchanged(TARGET, toko))
    assert found == [
        f"alih.yaml:{line_of(TEXT, '  shops:')}: entities.shops.reverse: title and label could both give back name"
        " → say which: `reverse: {name: title}`"
    ]


NAMES = [
    ("buyer_phone", PersonalData.GENERAL),
    ("email", PersonalData.GENERAL),
    ("no_hp", PersonalData.GENERAL),
    ("alamatPengiriman", PersonalData.GENERAL),
    ("nik", PersonalData.GENERAL),
    ("npwp", PersonalData.GENERAL),
    ("recipient_name", PersonalData.GENERAL),
    ("nama_lengkap", PersonalData.GENERAL),
    ("card_token", PersonalData.SPECIFIC),
    ("pan", PersonalData.SPECIFIC),
    ("no_rekening", PersonalData.SPECIFIC),
    ("account_no", PersonalData.SPECIFIC),
    ("company", None),
    ("shipping_method", None),
    ("title", None),
    ("name", None),
]


@pytest.mark.parametrize(("name", "data"), NAMES)
def test_names_that_look_like_personal_data(tmp_path: Path, name: str, data: PersonalData | None) -> None:
    toko = replace(TOKO, columns=(TOKO.columns[0], column(name, "text")))
    found = checked(tmp_path, spoilt("title: name", f"{name}: name"), target=exchanged(TARGET, toko))
    assert [p.split(" → ")[1] for p in found] == ([] if data is None else [f"add `data: {data}`"])


def test_a_foreign_key_to_another_table_is_no_way_to_the_tenant(tmp_path: Path) -> None:
    elsewhere = ForeignKey(
        name="f", columns=("order_id",), references=Table("public", "shops"), referenced=("shop_id",)
    )
    lines = replace(LINES, foreign_keys=(elsewhere,))
    found = checked(tmp_path, source=exchanged(SOURCE, lines))
    assert ["is no foreign key to public.orders" in found[0], "holds ids of shops, which are" in found[1]] == [True] * 2
    assert len(found) == 2


def test_reference_rows_need_no_way_back(tmp_path: Path) -> None:
    text = spoilt("tenant: {via: orders, column: order_id}", "scope: reference")
    text = spoilt("qty: quantity", 'qty: {sql: "quantity * 2"}', text)
    assert checked(tmp_path, text) == []


def test_lineage_names_the_columns_that_each_column_is_made_of(tmp_path: Path) -> None:
    rows = lineage(loaded(tmp_path), catalog(*SOURCE), catalog(*TARGET))
    orders = [r for r in rows if r.entity == "orders"]
    assert [(r.target_column, r.source_columns) for r in orders] == [
        ("id", ("order_id",)),
        ("merchant_id", ("shop_id",)),
        ("status", ("status",)),
        ("amount_idr", ("total_amount",)),
        ("buyer_phone", ("address",)),
        ("channel", ()),
    ]
    assert orders[4] == LineageRow(
        entity="orders",
        target_column="buyer_phone",
        source_columns=("address",),
        personal_data=PersonalData.GENERAL,
        purpose="fulfil and account for the sale",
    )
