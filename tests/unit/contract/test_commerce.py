"""`sales`, `payments`, `trial` and `rules` are read whole or refused whole, each problem at its line."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from alih.contract import load
from alih.errors import Refused
from alih.model.commerce import Payee, Records, Trial, TrialStep
from alih.model.contract import Contract
from alih.model.side import Side
from tests.unit.contract.shop import ENVIRON, TEXT, line_of, spoilt

RULES = """\
deadline: 2024-04-12
weights: {payment: 50, data: 30, merchant: 20}
articles:
  - {article: A 1, source: gazette, asks: {en: no payment there, id: tanpa pembayaran di sana}, measured: [trial]}
"""
ENTITIES = """\
  charges:
    from: charges
    to: tagihan
    key: {charge_id: id}
    tenant: {via: orders, column: order_id}
    purpose: account for the money
    fields:
      id: charge_id
      pesanan_id: order_id
      payee: payee
      amount_idr: {sql: "amount::bigint", reverse: "amount_idr::numeric(18,2)"}
      ref: provider_order_id
      state: {from: status, map: {pending: 1, settlement: 2}}
      fee_class: {sql: "amount > 100"}
      settled_at: {sql: "to_timestamp(settle_time)", reverse: "extract(epoch FROM settled_at)::bigint"}
      made_at: {sql: "to_timestamp(create_time)", reverse: "extract(epoch FROM made_at)::bigint"}
    not_moved: {card_token: the old payee's}
  currencies:
    from: currencies
    to: mata_uang
    key: {code: code}
    scope: reference
    purpose: read amounts
    fields: {code: code}
"""
SECTIONS = """\
  show_order:
    front: "GET /api/shops/{shop_id}/orders/{order_id}"
    target: "GET /v2/order/{order_id}"
    purpose: follow an order
    path: {order_id: path.order_id}
    answer: {order_id: body.data.id}
  pay:
    front: "POST /api/shops/{shop_id}/orders/{order_id}/payment"
    target: "POST /v2/order/{order_id}/payment"
    purpose: pay
    path: {order_id: path.order_id}
    answer: {gross_amount: body.data.amount}
  refund:
    front: "POST /api/shops/{shop_id}/orders/{order_id}/refunds"
    target: "POST /v2/order/{order_id}/refunds"
    purpose: give back
    path: {order_id: path.order_id}
    request: {amount: body.amount}
    answer: {amount: body.data.amount}
  payment_notice:
    front: "POST /api/shops/{shop_id}/payments/notices"
    target: "POST /v2/notices"
    purpose: learn of payments
    answer: {ok: body.ok}
  me:
    front: "GET /api/me/orders"
    target: "GET /v2/me"
    purpose: list orders
    answer: {ok: body.ok}
sales:
  zone: Asia/Jakarta
  seen_by: pay
  order: order_id
  invoice: show_order
  orders: {entity: orders, order: "order_id::text", amount: "total_amount::bigint", at: "to_timestamp(order_id)"}
  charges:
    entity: charges
    order: "order_id::text"
    payee: payee
    amount: "amount::bigint"
    reference: provider_order_id
    settled: "status <> 'pending'"
    at: "to_timestamp(create_time)"
    settled_at: "to_timestamp(settle_time)"
  refunds: {entity: charges, order: "order_id::text", key: payee, amount: amount, settled: "true", at: create_time}
  books: {entity: charges, entry: "charge_id::text", order: "order_id::text", received: "0", at: "create_time"}
payments:
  provider: midtrans
  api: $PROVIDER
  notices: payment_notice
  payees:
    source: {name: social, key: $PAYEE_SOCIAL}
    target: {name: market, key: $PAYEE_MARKET}
trial:
  tab: order
  tenants:
    first: {tenant: "298", promotion: 17}
    tenth: {tenant: "299", promotion: "18"}
  steps:
    promotion:
      call: "GET /p/{promotion}"
      status: 302
      take: {product: {from: location, like: "/#/shops/{tenant}/products/{product}"}}
    product: {call: "GET /x/{product}?full=1", take: {shown: body.price}}
    order:
      call: "POST /api/shops/{tenant}/orders"
      headers: {X-Buyer-Id: 1000003000, Idempotency-Key: "{key}-order"}
      body: {items: [{product_id: "{product}", quantity: 1}], gift: false}
      take: {order: body.order_id, ordered: body.items.0.price, invoice: body.invoice_url}
    pay: {call: "POST /api/shops/{tenant}/orders/{order}/payment", take: {charged: body.gross_amount}}
    paid:
      call: "GET /api/shops/{tenant}/orders/{order}"
      until: {body.status: settlement, body.open: false}
    invoice: {call: "GET {invoice}"}
    refund:
      call: "POST /api/shops/{tenant}/orders/{order}/refunds"
      body: {amount: "{charged}"}
      take: {refunded: body.amount}
rules: rules/here
"""
FULL = spoilt("tables_not_moved:", ENTITIES + "tables_not_moved:") + SECTIONS
KNOWN = ENVIRON | {"PROVIDER": "http://127.0.0.1:9004", "PAYEE_SOCIAL": "SB-social", "PAYEE_MARKET": "SB-market"}


def read(directory: Path, text: str = FULL, rules: str = RULES, environ: Mapping[str, str] = KNOWN) -> Contract:
    (directory / "rules" / "here").mkdir(parents=True, exist_ok=True)
    (directory / "rules" / "here" / "rules.yaml").write_text(rules, encoding="utf-8")
    (directory / "alih.yaml").write_text(text, encoding="utf-8")
    return load(directory / "alih.yaml", environ)


def refusal(directory: Path, text: str = FULL, rules: str = RULES, environ: Mapping[str, str] = KNOWN) -> list[str]:
    with pytest.raises(Refused) as caught:
        read(directory, text, rules, environ)
    assert "SB-social" not in str(caught.value)
    return caught.value.message.splitlines()


def spoilt_full(old: str, new: str) -> str:
    return spoilt(old, new, FULL)


def test_the_four_sections_become_values(tmp_path: Path) -> None:
    contract = read(tmp_path)
    assert contract.sales is not None
    assert contract.sales.orders == Records(
        entity="orders",
        columns={"order": "order_id::text", "amount": "total_amount::bigint", "at": "to_timestamp(order_id)"},
    )
    assert set(contract.sales.charges.columns) == {
        *("order", "payee", "amount", "reference", "settled", "at", "settled_at"),
    }
    assert (contract.sales.zone, contract.sales.seen_by, contract.sales.order, contract.sales.invoice) == (
        *("Asia/Jakarta", "pay", "order_id", "show_order"),
    )
    assert contract.payments is not None
    assert (contract.payments.api, contract.payments.notices) == ("http://127.0.0.1:9004", "payment_notice")
    assert contract.payments.payees == {
        Side.SOURCE: Payee(name="social", key="SB-social"),
        Side.TARGET: Payee(name="market", key="SB-market"),
    }
    assert "SB-" not in repr(contract)


def test_a_trial_becomes_values(tmp_path: Path) -> None:
    trial = read(tmp_path).trial
    assert isinstance(trial, Trial)
    assert trial.tenants == {
        "first": {"tenant": "298", "promotion": "17"},
        "tenth": {"tenant": "299", "promotion": "18"},
    }
    assert trial.test_tenants == {"first": "298", "tenth": "299"}
    assert [step.name for step in trial.steps] == [
        *("promotion", "product", "order", "pay", "paid", "invoice", "refund"),
    ]
    assert trial.steps[0] == TrialStep(
        name="promotion",
        method="GET",
        path="/p/{promotion}",
        headers={},
        body=None,
        status=302,
        takes={"product": "location"},
        patterns={"product": "/#/shops/{tenant}/products/{product}"},
        until={},
    )
    assert trial.steps[2].headers == {"X-Buyer-Id": "1000003000", "Idempotency-Key": "{key}-order"}
    assert trial.steps[2].body == {"items": [{"product_id": "{product}", "quantity": 1}], "gift": False}
    assert trial.steps[4].until == {"body.status": "settlement", "body.open": "false"}


def test_rules_are_the_directorys_file(tmp_path: Path) -> None:
    rules = read(tmp_path).rules
    assert rules is not None
    assert rules.weights == {"payment": 50, "data": 30, "merchant": 20}
    assert rules.deadline == datetime(2024, 4, 12, 23, 59, 59, tzinfo=ZoneInfo("Asia/Jakarta"))
    assert rules.articles == (
        {
            "article": "A 1",
            "source": "gazette",
            "asks": {"en": "no payment there", "id": "tanpa pembayaran di sana"},
            "measured": ["trial"],
        },
    )


def test_rules_need_not_say_everything(tmp_path: Path) -> None:
    rules = read(tmp_path, rules="deadline: $END\n", environ=KNOWN | {"END": "2024-04-12T12:00:00+07:00"}).rules
    assert rules is not None
    assert rules.weights == {"payment": 60, "data": 20, "merchant": 20}
    assert rules.deadline == datetime.fromisoformat("2024-04-12T05:00:00+00:00")
    assert rules.articles == ()


def test_a_contract_without_the_sections_has_none_of_them(tmp_path: Path) -> None:
    contract = read(tmp_path, TEXT)
    assert (contract.sales, contract.payments, contract.trial, contract.rules) == (None, None, None, None)


REFUSALS = [
    ("zone: Asia/Jakarta", "zone: Asia", "sales.zone", "Asia is no time zone → write it as in Asia/Jakarta"),
    ("zone: Asia/Jakarta", "zone: ../x", "sales.zone", "../x is no time zone → write it as in Asia/Jakarta"),
    ("seen_by: pay", "seen_by: buy", "sales.seen_by", "there is no operation buy → name one of `operations`"),
    (
        "seen_by: pay",
        "seen_by: me",
        "sales.seen_by",
        "the front path of me names no tenant → name an operation under gateway.tenant_from",
    ),
    (
        "invoice: show_order",
        "invoice: place_order",
        "sales.invoice",
        "the front path of place_order has no {order_id} → name an operation whose front path names the order, and its"
        " placeholder under `order`",
    ),
    ("entity: orders,", "entity: order,", "sales.orders.entity", "there is no entity order → name one of `entities`"),
    (
        "books: {entity: charges",
        "books: {entity: currencies",
        "sales.books.entity",
        "the rows of currencies are no tenant's → name an entity with a tenant",
    ),
    ("    settled: \"status <> 'pending'\"\n", "", "sales.charges.settled", "is missing → add it"),
    (
        "    settled: \"status <> 'pending'\"\n",
        "    settle: \"status <> 'pending'\"\n    settled: 'true'\n",
        "sales.charges.settle",
        "unknown key → did you mean settled?",
    ),
    (
        '"total_amount::bigint", at',
        '"total_amount::", at',
        "sales.orders.amount",
        "is no SQL expression that can be read → write one PostgreSQL expression",
    ),
    (
        "payee: payee\n    amount",
        "payee: card_token\n    amount",
        "sales.charges.payee",
        "reads card_token, which the target's rows do not tell → it is not moved: use columns that cross",
    ),
    (
        "    not_moved: {card_token: the old payee's}",
        "    keep: {payee: x}\n    not_moved: {card_token: the old payee's}",
        "sales.charges.payee",
        "reads payee, which the target's rows do not tell → it is kept at the source, for it does not come back whole:"
        " use other columns",
    ),
    (
        "payee: payee\n    amount",
        "payee: fee\n    amount",
        "sales.charges.payee",
        "reads fee, which the target's rows do not tell → use columns that cross and come back, or add the way back to"
        " the entity's `reverse`",
    ),
    ("provider: midtrans", "provider: other", "payments.provider", "should be 'midtrans' → correct it"),
    (
        "api: $PROVIDER",
        'api: "http://host/v2"',
        "payments.api",
        "is no http(s)://host[:port] → write it without a path or a slash",
    ),
    (
        "api: $PROVIDER",
        "api: $NOWHERE",
        "payments.api",
        "the environment has no NOWHERE → export NOWHERE=… before you start alih",
    ),
    (
        "key: $PAYEE_SOCIAL",
        "key: SB-other",
        "payments.payees.source.key",
        "is written out → write $NAME of an environment variable, or file:PATH",
    ),
    (
        "key: $PAYEE_MARKET",
        "key: $PAYEE_SOCIAL",
        "payments.payees.target.key",
        "is the source's key as well → give each account its own: it tells whose notice it is",
    ),
    (
        "name: market",
        "name: social",
        "payments.payees.target.name",
        "is the source's payee as well → name each side's own account",
    ),
    ("    target: {name: market, key: $PAYEE_MARKET}\n", "", "payments.payees.target", "is missing → add it"),
    (
        "notices: payment_notice",
        "notices: notice",
        "payments.notices",
        "there is no operation notice → name one of `operations`",
    ),
    (
        "notices: payment_notice",
        "notices: pay",
        "payments.notices",
        "the front path of pay names more than the tenant → notices name the rest",
    ),
    ("tab: order", "tab: shop", "trial.tab", "there is no step shop → name the step that opens the Shop tab"),
    (
        "    tenth: {tenant",
        "    third: {tenant",
        "trial.tenants.third",
        "there is no cohort third → name one of `cohorts`",
    ),
    (
        'tenant: "299"',
        'tenant: "298"',
        "trial.tenants.tenth.tenant",
        "is named a second time → a test tenant is in this cohort already",
    ),
    (
        'tenant: "299"',
        'tenant: "1"',
        "trial.tenants.tenth.tenant",
        "is named a second time → a test tenant is in this cohort already",
    ),
    (
        'tenant: "299", ',
        "",
        "trial.tenants.tenth.tenant",
        "is missing → give the id of a tenant that is for tests only",
    ),
    (
        ', promotion: "18"',
        "",
        "trial.tenants.tenth",
        "gives no promotion, which step promotion names → add `promotion: …`",
    ),
    (
        "/p/{promotion}",
        "/p/{campaign}",
        "trial.steps.promotion",
        "{campaign} has no value → take it in an earlier step, or give it under trial.tenants",
    ),
    (
        'body: {amount: "{charged}"}',
        'body: {amount: ["{refunded}"]}',
        "trial.steps.refund",
        "{refunded} has no value → take it in an earlier step, or give it under trial.tenants",
    ),
    (
        'products/{product}"',
        'products/1"',
        "trial.steps.promotion.take.product",
        "its template has no {product} → write {product} in `like`",
    ),
    (
        ", take: {charged: body.gross_amount}",
        ", take: {paid_amount: body.gross_amount}",
        "trial.steps",
        "no step takes charged → add `take: {charged: …}` to the step whose answer tells it",
    ),
    (
        'call: "GET {invoice}"',
        'call: "GET /invoices"',
        "trial.steps",
        'no step opens {invoice} → add a step with `call: "GET {invoice}"`',
    ),
    (
        "take: {shown: body.price}",
        "take: {shown: body.price, product: body.id}",
        "trial.steps.product.take.product",
        "has a value already → give it a name of its own",
    ),
    (
        "take: {shown: body.price}",
        "take: {shown: header.price}",
        "trial.steps.product.take.shown",
        "`header.price` leads nowhere → write `location`, or body. and a name",
    ),
    (
        "take: {shown: body.price}",
        "take: {shown: [a]}",
        "trial.steps.product.take.shown",
        "should be a path such as body.price, or {from: path, like: template} → correct it",
    ),
    (
        "{body.status: settlement,",
        "{status: settlement,",
        "trial.steps.paid.until.status",
        "`status` leads nowhere → begin with body. and a name",
    ),
    (
        'call: "GET /api/shops/{tenant}/orders/{order}"',
        'call: "POST /api/shops/{tenant}/orders"',
        "trial.steps.paid.until",
        "would repeat a POST → wait by a GET, in a step of its own",
    ),
    (
        'call: "GET /x/{product}?full=1"',
        'call: "GET /api/shops/{tenant}/products/{product}"',
        "trial.steps.product.call",
        "is no operation: it would end with the move → add the operation, or call what the contract offers",
    ),
    (
        'call: "GET /x/{product}?full=1"',
        'call: "LOOK /x"',
        "trial.steps.product.call",
        "should match pattern '^(GET|HEAD|POST|PUT|PATCH|DELETE) [/{][^\\s#]*$' → METHOD and path, as in "
        "`GET /api/shops/{tenant}`",
    ),
    (
        "  refunds: {entity: charges",
        "  # refunds: {entity: charges",
        "sales",
        "has no refunds, and the trial refunds what it paid → add `refunds: {entity: …}`",
    ),
    (
        "rules: rules/here",
        "rules: rules/there",
        "rules",
        "{dir}/rules/there/rules.yaml is not there → name a directory that holds a rules.yaml",
    ),
]


@pytest.mark.parametrize(("old", "new", "path", "says"), REFUSALS, ids=[f"{r[2]}-{i}" for i, r in enumerate(REFUSALS)])
def test_refused_by_path_and_remedy(tmp_path: Path, old: str, new: str, path: str, says: str) -> None:
    problems = refusal(tmp_path, spoilt_full(old, new))
    found = [p for p in problems if p.split(": ", 2)[1] == path]
    assert [p.split(": ", 2)[2] for p in found] == [says.replace("{dir}", str(tmp_path))]


def test_a_problem_stands_at_its_line(tmp_path: Path) -> None:
    text = spoilt_full("    reference: provider_order_id", "    reference: internal_reference")
    assert refusal(tmp_path, text) == [
        f"alih.yaml:{line_of(text, 'internal_reference')}: sales.charges.reference: reads internal_reference, which"
        " the target's rows do not tell → use columns that cross and come back, or add the way back to the entity's"
        " `reverse`"
    ]


def test_an_entity_that_is_wrong_itself_is_named_once(tmp_path: Path) -> None:
    text = spoilt_full('{sql: "to_timestamp(settle_time)", ', '{sql: "now()", ')
    assert [p.split(": ", 2)[1] for p in refusal(tmp_path, text)] == ["entities.charges.fields.settled_at"]


def test_what_a_section_needs(tmp_path: Path) -> None:
    text = spoilt_full(SECTIONS[SECTIONS.index("payments:\n") : SECTIONS.index("trial:\n")], "")
    assert refusal(tmp_path, text) == [
        f"alih.yaml:{line_of(text, 'trial:')}: trial: needs `payments` to check a purchase by → add `payments:`"
    ]


RULE_REFUSALS = [
    ("payment: 50", "payment: 51", "rules.yaml:2: weights: their sum is 101 → give percent whose sum is 100"),
    (
        "deadline: 2024-04-12",
        "deadline: soon",
        "rules.yaml:1: deadline: is no date → write it as in 2024-04-12, or with time and zone",
    ),
    (
        "deadline: 2024-04-12",
        "deadline: $END",
        "rules.yaml:1: deadline: the environment has no END → export END=… before you start alih",
    ),
    ("measured: [trial]", "measured: []", "rules.yaml:4: articles[0].measured: "),
    (", id: tanpa pembayaran di sana", "", "rules.yaml:4: articles[0].asks.id: is missing → add it"),
    ("article: A 1", "articel: A 1", "rules.yaml:4: articles[0].articel: unknown key → did you mean article?"),
]


@pytest.mark.parametrize(("old", "new", "says"), RULE_REFUSALS, ids=range(len(RULE_REFUSALS)))
def test_wrong_rules_are_named_in_their_own_file(tmp_path: Path, old: str, new: str, says: str) -> None:
    problems = refusal(tmp_path, rules=spoilt(old, new, RULES))
    assert [p for p in problems if p.startswith(says)]
