"""A small contract and both catalogs made by hand, right as they stand; each test spoils one thing."""

from dataclasses import replace
from pathlib import Path

import pytest

from alih.contract import check, load
from alih.errors import Refused
from alih.model.catalog import Catalog, ColumnInfo, ForeignKey, TableInfo
from alih.model.contract import Contract, Table

ENVIRON = {"SOURCE": "host=a password=hunter2", "TARGET": "host=b password=hunter2", "TOKEN": "s3cret"}

TEXT = """\
migration: small-shop
source: {kind: postgres, dsn: $SOURCE}
target: {kind: postgres, dsn: $TARGET}
tenant: {entity: shops, key: shop_id}
entities:
  lines:
    from: order_lines
    to: baris
    key: {order_id: pesanan_id, line_no: no}
    tenant: {via: orders, column: order_id}
    purpose: what was sold
    fields: {pesanan_id: order_id, no: line_no, qty: quantity}
  orders:
    from: orders
    to: pesanan
    key: {order_id: id}
    tenant: shop_id
    ours: "channel = 'social'"
    purpose: fulfil and account for the sale
    fields:
      id: order_id
      merchant_id: {link: shops, from: shop_id}
      status: {from: status, map: {UNPAID: 100, CANCELLED: 0}, reverse: {103: UNPAID}}
      amount_idr: {sql: "total_amount::bigint", reverse: "amount_idr::numeric(18,2)"}
      buyer_phone: {sql: "address->>'phone'", data: general}
      channel: {value: social}
    reverse:
      address: "jsonb_build_object('phone', buyer_phone)"
    not_moved: {internal_note: never shown to anyone}
  shops:
    from: shops
    to: toko
    key: {shop_id: merchant_id}
    tenant: shop_id
    link: "SELECT social_shop_id, merchant_id FROM seller_bindings"
    purpose: who sells
    fields:
      merchant_id: {link: shops, from: shop_id}
      title: name
tables_not_moved: {audit_log: stays for the auditor}
cohorts: [{name: first, tenants: ["1"]}, {name: tenth, share: 0.1}, {name: rest, rest: true}]
gateway: {listen: "127.0.0.1:8080", front: "127.0.0.1:9001", source: "127.0.0.1:9002", target: "127.0.0.1:9003",
          tenant_from: {path: "/api/shops/{shop_id}"}, shared_paths: [/api/me], request_max_ms: 2000,
          operator_secret: $TOKEN}
operations:
  place_order:
    front: "POST /api/shops/{shop_id}/orders"
    target: "POST /v2/fs/{merchant_id}/order"
    purpose: checkout
    path: {merchant_id: {from: path.shop_id, link: shops}}
    headers: {Idempotency-Key: header.idempotency-key}
    request: {items: {each: body.items, of: {product_id: {from: item.product_id, cast: integer}}}}
    answer: {order_id: {from: body.data.id, cast: text}, status: {from: body.data.status, coded: orders.status}}
"""


def line_of(text: str, part: str) -> int:
    """The line of `text`, counted from 1, that holds `part`."""
    return next(i for i, line in enumerate(text.splitlines(), 1) if part in line)


def loaded(directory: Path, text: str = TEXT) -> Contract:
    file = directory / "alih.yaml"
    file.write_text(text, encoding="utf-8")
    return load(file, ENVIRON)


def refusal(directory: Path, text: str) -> list[str]:
    """The problems that loading `text` names."""
    with pytest.raises(Refused) as caught:
        loaded(directory, text)
    assert "hunter2" not in str(caught.value)
    return caught.value.message.splitlines()


def spoilt(old: str, new: str, text: str = TEXT) -> str:
    assert text.count(old) == 1, f"{old!r} has to stand in the contract once"
    return text.replace(old, new)


def column(name: str, full_type: str, **more: object) -> ColumnInfo:
    bare = full_type.split("(")[0]
    base = ColumnInfo(name=name, type=bare, full_type=full_type, not_null=True)
    return replace(base, **more)  # type: ignore[arg-type]  # tests name the fields of ColumnInfo


def table(name: str, key: tuple[str, ...], *columns: ColumnInfo, keys: tuple[ForeignKey, ...] = ()) -> TableInfo:
    return TableInfo(
        table=Table("public", name), columns=columns, primary_key=key, identity_columns=key, foreign_keys=keys
    )


def catalog(*tables: TableInfo) -> Catalog:
    return Catalog(tables={t.table: t for t in tables})


SHOPS = table("shops", ("shop_id",), column("shop_id", "bigint"), column("name", "text"))
ORDERS = table(
    "orders",
    ("order_id",),
    column("order_id", "bigint"),
    column("shop_id", "bigint"),
    column("status", "text"),
    column("total_amount", "numeric(18,2)"),
    column("address", "jsonb", not_null=False),
    column("internal_note", "text", not_null=False),
)
LINES = table(
    "order_lines",
    ("order_id", "line_no"),
    column("order_id", "bigint"),
    column("line_no", "integer"),
    column("quantity", "integer"),
    keys=(ForeignKey(name="f", columns=("order_id",), references=Table("public", "orders"), referenced=("order_id",)),),
)
AUDIT = table("audit_log", (), column("entry", "text"))
TOKO = table("toko", ("merchant_id",), column("merchant_id", "bigint"), column("title", "character varying(40)"))
PESANAN = table(
    "pesanan",
    ("id",),
    column("id", "bigint"),
    column("merchant_id", "bigint"),
    column("status", "integer"),
    column("amount_idr", "bigint"),
    column("buyer_phone", "text", not_null=False),
    column("channel", "text"),
)
BARIS = table(
    "baris", ("pesanan_id", "no"), column("pesanan_id", "bigint"), column("no", "integer"), column("qty", "integer")
)
SOURCE = (SHOPS, ORDERS, LINES, AUDIT)
TARGET = (TOKO, PESANAN, BARIS)


def checked(
    directory: Path,
    text: str = TEXT,
    source: tuple[TableInfo, ...] = SOURCE,
    target: tuple[TableInfo, ...] = TARGET,
) -> list[str]:
    """The problems that `check` names."""
    return [str(p) for p in check(loaded(directory, text), catalog(*source), catalog(*target))]


def with_column(info: TableInfo, changed: ColumnInfo) -> TableInfo:
    """`info` with that column changed, or added."""
    kept = tuple(changed if c.name == changed.name else c for c in info.columns)
    return replace(info, columns=kept if changed in kept else (*kept, changed))


def exchanged(tables: tuple[TableInfo, ...], info: TableInfo) -> tuple[TableInfo, ...]:
    return tuple(info if t.table == info.table else t for t in tables)
