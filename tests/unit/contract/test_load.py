"""`alih.yaml` is read whole or refused whole, with file, line, path and remedy of each problem."""

from pathlib import Path

import pytest

from alih.contract import load
from alih.contract.document import MAX_BYTES
from alih.errors import Refused
from alih.model.contract import Coded, Each, Linked, Own, Scope, Value, Via
from tests.unit.contract.shop import ENVIRON, TEXT, line_of, loaded, refusal, spoilt


def test_a_right_contract_becomes_values(tmp_path: Path) -> None:
    contract = loaded(tmp_path)
    orders = contract.entity("orders")
    rules = {f.target: f.rule for f in orders.fields}
    assert contract.source.dsn == "host=a password=hunter2"
    assert contract.control.dsn is None
    assert contract.tables_not_moved == {"public.audit_log": "stays for the auditor"}
    assert (orders.scope, orders.tenant, orders.key) == (Scope.TENANT, Own("shop_id"), (("order_id", "id"),))
    assert contract.entity("lines").tenant == Via("orders", "order_id")
    assert rules["merchant_id"] == Linked(source="shop_id", entity="shops")
    assert rules["status"] == Coded(
        source="status", forward={"UNPAID": "100", "CANCELLED": "0"}, backward={"103": "UNPAID"}
    )
    assert orders.place.line == line_of(TEXT, "  orders:")
    assert [(c.name, c.tenants, c.share, c.rest) for c in contract.cohorts] == [
        ("first", ("1",), None, False),
        ("tenth", (), 0.1, False),
        ("rest", (), None, True),
    ]
    operation = contract.operations[0]
    assert operation.front == ("POST", "/api/shops/{shop_id}/orders")
    assert operation.path == {"merchant_id": Value(path="path.shop_id", link="shops")}
    assert operation.request == {
        "items": Each(path="body.items", shape={"product_id": Value(path="item.product_id", cast="integer")})
    }


def test_no_secret_is_in_a_contracts_text(tmp_path: Path) -> None:
    text = repr(loaded(tmp_path))
    assert "hunter2" not in text
    assert "s3cret" not in text


def test_codes_are_text_however_yaml_would_read_them(tmp_path: Path) -> None:
    text = spoilt("map: {UNPAID: 100, CANCELLED: 0}, reverse: {103: UNPAID}", "map: {NO: 012, on: 12:30}")
    rule = loaded(tmp_path, text).entity("orders").fields[2].rule
    assert rule == Coded(source="status", forward={"NO": "012", "on": "12:30"}, backward={})


REFUSALS = [
    (
        "migration: small-shop",
        "migration: Small",
        "migration",
        "should match pattern '^[a-z][a-z0-9-]{0,30}$' → a short name: a-z, 0-9 and -, beginning with a "
        "letter, at most 31 characters",
    ),
    (
        "dsn: $SOURCE",
        "dsn: $NOWHERE",
        "source.dsn",
        "the environment has no NOWHERE → export NOWHERE=… before you start alih",
    ),
    (
        "dsn: $SOURCE",
        'dsn: "host=x password=hunter2"',
        "source.dsn",
        "is written out → write $NAME of an environment variable, or file:PATH",
    ),
    (
        "dsn: $SOURCE",
        "dsn: file:absent",
        "source.dsn",
        "{dir}/absent: No such file or directory → name a file that alih can read",
    ),
    (
        "dsn: $TARGET",
        "dsn: $TARGET, embedded: true",
        "target",
        "needs one of dsn and embedded → write `dsn: $NAME` or `embedded: true`",
    ),
    (
        "dsn: $TARGET",
        "dsn: $TARGET, user: me",
        "target.user",
        "unknown key → remove it",
    ),
    (
        "purpose: fulfil and account for the sale",
        "porpose: sell",
        "entities.orders.porpose",
        "unknown key → did you mean purpose?",
    ),
    (
        "    purpose: who sells\n",
        "",
        "entities.shops.purpose",
        "is missing → say in one line what the other side needs it for",
    ),
    (
        "to: pesanan",
        "to: pesanan\n    to: other",
        "entities.orders.to",
        "given twice → keep one of the two",
    ),
    (
        "tenant: {entity: shops, key: shop_id}",
        "tenant: {entity: shop, key: shop_id}",
        "tenant.entity",
        "there is no entity shop → name one of `entities`",
    ),
    (
        "tenant: {entity: shops, key: shop_id}",
        "tenant: {entity: shops, key: id}",
        "tenant.key",
        "is not the key of that entity → write the source column of its one-column key: shop_id",
    ),
    (
        "key: {order_id: id}\n    tenant: shop_id",
        "key: {order_id: id}",
        "entities.orders",
        "whose rows it holds is not said → write `tenant: column`, `tenant: {via: entity, column: "
        "column}`, `scope: shared` or `scope: reference`",
    ),
    (
        "key: {order_id: id}\n    tenant: shop_id",
        "key: {order_id: id}\n    tenant: shop_id\n    scope: shared",
        "entities.orders",
        "has both a tenant and a scope → write `tenant: column`, `tenant: {via: entity, column: column}`, "
        "`scope: shared` or `scope: reference`",
    ),
    (
        "{via: orders, column: order_id}",
        "{via: order, column: order_id}",
        "entities.lines.tenant.via",
        "there is no entity order → name one of `entities`",
    ),
    (
        "{via: orders, column: order_id}",
        "{via: lines, column: order_id}",
        "entities.lines.tenant.via",
        "leads in a circle → end the way at an entity with a tenant column",
    ),
    (
        "to: toko",
        "to: pesanan",
        "entities.shops.to",
        "public.pesanan stands in 2 entities → give each table one entity",
    ),
    (
        "purpose: what was sold",
        "purpose: what was sold\n    history: stays",
        "entities.lines.history",
        "rows that stay are not offered yet → write `history: moves`, or leave it out",
    ),
    (
        "UNPAID: 100, CANCELLED: 0}",
        "UNPAID: 100, CANCELLED: 100}",
        "entities.orders.fields.status.map.CANCELLED",
        "100 already stands for UNPAID → give each code one of its own, or add the column to `keep`, or the way back"
        " is lost",
    ),
    (
        "{103: UNPAID}",
        "{100: UNPAID}",
        "entities.orders.fields.status.reverse.100",
        "the map already leads here → leave it out: the way back of `map` is known",
    ),
    (
        "{103: UNPAID}",
        "{103: PAID}",
        "entities.orders.fields.status.reverse.103",
        "PAID is no code of `map` → name one of the source's codes",
    ),
    (
        "channel: {value: social}",
        "channel: {values: social}",
        "entities.orders.fields.channel",
        "should be a word, or have one of the keys value, sql, link, offset, map, from → correct it",
    ),
    (
        "title: name",
        "title: [name]",
        "entities.shops.fields.title",
        "should be a word, or have one of the keys value, sql, link, offset, map, from → correct it",
    ),
    (
        "merchant_id: {link: shops, from: shop_id}\n      status",
        "merchant_id: {link: lines, from: shop_id}\n      status",
        "entities.orders.fields.merchant_id.link",
        "lines has no link → give lines a `link:`, SQL on the target for (source id, target id)",
    ),
    (
        "SELECT social_shop_id, merchant_id FROM seller_bindings",
        "SELECT merchant_id FROM seller_bindings",
        "entities.shops.link",
        "is not one SELECT of two columns → SELECT source_id, target_id FROM … on the target",
    ),
    (
        "      address: \"jsonb_build_object('phone', buyer_phone)\"",
        "      internal_note: channel",
        "entities.orders.reverse.internal_note",
        "stands under not_moved too → keep one of the two",
    ),
    (
        "{name: tenth, share: 0.1}",
        "{name: tenth, share: 0.1, tenants: [a]}",
        "cohorts[1]",
        "needs one of tenants, share and rest → keep one of them",
    ),
    (
        "{name: tenth, share: 0.1}",
        "{name: tenth, rest: true}",
        "cohorts[1]",
        "takes the rest but is not the last → put it at the end",
    ),
    (
        "{name: tenth, share: 0.1}",
        "{name: first, share: 0.1}",
        "cohorts[1]",
        "a second cohort first → give it a name of its own",
    ),
    (
        'tenants: ["1"]',
        "tenants: [a1, A1]",
        "cohorts[0].tenants[1]",
        "differs from another tenant only in case → the gateway cannot tell them apart; rename one",
    ),
    (
        'tenants: ["1"]',
        "tenants: [a1, a1]",
        "cohorts[0].tenants[1]",
        "names a tenant a second time → keep it in one cohort",
    ),
    (
        'front: "127.0.0.1:9001"',
        'front: "127.0.0.1:0"',
        "gateway.front",
        "is no host:port → write it as in 127.0.0.1:8080, or $NAME of a variable that holds it",
    ),
    (
        'path: "/api/shops/{shop_id}"}',
        'path: "/api/shops"}',
        "gateway.tenant_from.path",
        "needs exactly one placeholder → write the prefix of the tenant's calls, as in /api/shops/{shop_id}",
    ),
    (
        "/v2/fs/{merchant_id}/order",
        "/v2/fs/{merchant_id}/{sku}",
        "operations.place_order.target",
        "{sku} has no value → add `path: {sku: …}`",
    ),
    (
        "/v2/fs/{merchant_id}/order",
        "/v2/order",
        "operations.place_order.path.merchant_id",
        "is no placeholder of `target` → write {merchant_id} in `target`, or leave it out",
    ),
    (
        "from: path.shop_id, link",
        "from: path.shop, link",
        "operations.place_order.path.merchant_id",
        "`front` has no {shop} → name one of its placeholders",
    ),
    (
        "header.idempotency-key",
        "cookie.key",
        "operations.place_order.headers.Idempotency-Key",
        "`cookie.key` leads nowhere → begin with one of path, query, header, body, then a dot and a name",
    ),
    (
        "from: body.data.id, cast: text",
        "from: header.id, cast: text",
        "operations.place_order.answer.order_id",
        "`header.id` leads nowhere → begin with one of body, then a dot and a name",
    ),
    (
        "coded: orders.status",
        "coded: orders.channel",
        "operations.place_order.answer.status",
        "orders.channel has no code list → name entity.target_column of a field with a `map`",
    ),
    (
        "cast: text}",
        "cast: text, link: shops}",
        "operations.place_order.answer.order_id",
        "has several conversions → keep one of cast, coded and link",
    ),
    (
        'front: "POST /api/shops/{shop_id}/orders"',
        'front: "POST /other/{shop_id}/orders"',
        "operations.place_order.front",
        "never leaves the front end: it is neither under tenant_from nor under shared_paths → add its "
        "prefix to gateway.shared_paths, or drop the operation",
    ),
    (
        "headers: {Idempotency-Key: header.idempotency-key}",
        "query: {from_shop: {from: query.other, link: shops}}",
        "operations.place_order",
        "names two tenants: path.shop_id, query.other → take the tenant from the path alone; split a call "
        "that is about two",
    ),
    (
        "headers: {Idempotency-Key: header.idempotency-key}",
        "query: {s: body.shop_id}",
        "operations.place_order",
        "names two tenants: body.shop_id, path.shop_id → take the tenant from the path alone; split a call "
        "that is about two",
    ),
]


@pytest.mark.parametrize(("old", "new", "path", "says"), REFUSALS, ids=[f"{r[2]}-{i}" for i, r in enumerate(REFUSALS)])
def test_refused_by_line_path_and_remedy(tmp_path: Path, old: str, new: str, path: str, says: str) -> None:
    problems = refusal(tmp_path, spoilt(old, new))
    found = [p for p in problems if p.split(": ", 2)[1] == path]
    assert [p.split(": ", 2)[2] for p in found] == [says.replace("{dir}", str(tmp_path))]


EXPRESSIONS = [
    ("total_amount::", "is no SQL expression that can be read → write one PostgreSQL expression"),
    ("total_amount; SELECT 1", "holds several statements → write one expression, without a semicolon"),
    ("total_amount, 1", "is not one expression → write one expression: no list, no FROM, no clause"),
    ("total_amount FROM other", "is not one expression → write one expression: no list, no FROM, no clause"),
    ("(SELECT 1)", "holds a sub-select → use columns of this row only; `link` and `via` reach other tables"),
    ("sum(total_amount)", "looks at several rows → use columns of this row only: no aggregate, no window, no *"),
    ("orders.total_amount", "names a column with its table → write the bare column name; it is qualified by alih"),
    ("total_amount AS a", "names its result → leave out AS: the column's name stands before the colon"),
    ("total_amount * $1", "holds a parameter → write the value itself"),
    ("total_amount /* gross */", "holds a comment → write it behind a # of YAML"),
]


@pytest.mark.parametrize(("sql", "says"), EXPRESSIONS)
def test_an_expression_is_one_expression_over_one_row(tmp_path: Path, sql: str, says: str) -> None:
    text = spoilt('{sql: "total_amount::bigint", ', f'{{sql: "{sql}", ')
    here = f"alih.yaml:{line_of(text, 'amount_idr:')}: entities.orders.fields.amount_idr"
    assert refusal(tmp_path, text) == [f"{here}: {says}"]


UNSTABLE = [
    "now()",
    "random()",
    "CURRENT_TIMESTAMP",
    "nextval('s')",
    "gen_random_uuid()",
    "current_user",
    "'now'::date",
]


@pytest.mark.parametrize("sql", UNSTABLE)
def test_an_expression_gives_the_same_each_time(tmp_path: Path, sql: str) -> None:
    text = spoilt("\"channel = 'social'\"", f'"channel = {sql}"')
    word = sql.split("(")[0].split("::")[0].strip("'").lower()
    assert refusal(tmp_path, text) == [
        f"alih.yaml:{line_of(text, 'ours:')}: entities.orders.ours: uses {word}, which gives another value each time"
        " → use columns only: a row is mapped again when it is verified and must come out the same"
    ]


def test_all_problems_are_named_at_once_in_the_files_order(tmp_path: Path) -> None:
    text = spoilt("purpose: fulfil and account for the sale", "history: never", spoilt("title: name", "title: 5"))
    assert refusal(tmp_path, text) == [
        f"alih.yaml:{line_of(text, '  orders:')}: entities.orders.purpose: is missing"
        " → say in one line what the other side needs it for",
        f"alih.yaml:{line_of(text, 'never')}: entities.orders.history: should be 'moves' or 'stays' → correct it",
        f"alih.yaml:{line_of(text, 'title:')}: entities.shops.fields.title:"
        " should be a word, or have one of the keys value, sql, link, offset, map, from → correct it",
    ]


WHOLE_FILES = [
    (b"", "alih.yaml:1: a contract is a mapping"),
    (b"a: [1", "alih.yaml:1: no YAML: expected ',' or ']', but got '<stream end>'"),
    (b"a: &x 1\nb: *x\n", "alih.yaml: YAML aliases (*name) are not read"),
    (b"a: \xff", "alih.yaml: not UTF-8"),
    (b"a: \x00", "alih.yaml: no YAML"),
    (b"#" * (MAX_BYTES + 1), "alih.yaml: larger than 1,000,000 bytes"),
    (b"migration: !!python/object/apply:os.system [ls]", None),
    (b"a: " + b"[" * 40 + b"]" * 40, None),
]


@pytest.mark.parametrize(("content", "says"), WHOLE_FILES, ids=range(len(WHOLE_FILES)))
def test_a_file_that_is_no_contract(tmp_path: Path, content: bytes, says: str | None) -> None:
    file = tmp_path / "alih.yaml"
    file.write_bytes(content)
    with pytest.raises(Refused) as caught:
        load(file, ENVIRON)
    assert says is None or caught.value.message == says


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(Refused) as caught:
        load(tmp_path / "absent.yaml", ENVIRON)
    assert caught.value.message == f"{tmp_path}/absent.yaml: No such file or directory"


def test_a_dsn_from_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    secret = tmp_path / "dsn"
    secret.write_text("host=c\n", encoding="utf-8")
    secret.chmod(0o600)
    assert loaded(tmp_path, spoilt("$SOURCE", "file:dsn")).source.dsn == "host=c"
    secret.chmod(0o644)
    assert refusal(tmp_path, spoilt("$SOURCE", "file:dsn")) == [
        f"alih.yaml:2: source.dsn: {secret} can be read by others → chmod 600 {secret}"
    ]
