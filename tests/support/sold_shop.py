"""A shop that has sold, on two unlike back ends: shop 1 is the source's, shop 2 has moved, shop 3 has too and is a
test shop. All is as it should be until a test spoils something.

The provider, the invoices and the kept notices are told the same when a sale is recorded.
"""

import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, LiteralString

import aiohttp
import psycopg
from aiohttp import encode_basic_auth, web

from alih.contract import check, compile, load
from alih.model.commerce import Payee
from alih.model.contract import Contract
from alih.model.side import Side
from alih.payments.custody import arrived
from alih.payments.midtrans import Provider, signature
from alih.payments.words import Words
from alih.postgres import catalog
from alih.postgres.control import Control
from alih.postgres.custody import Custody
from alih.postgres.line import Line
from alih.postgres.sales import Books
from alih.postgres.seen import Call, Place, SeenStore
from alih.proof.invoice import Invoices
from alih.proof.provenance import Tracer
from alih.proof.reconciling import Reconciler
from alih.proof.sales import Ledgers
from tests.support.databases import Databases

HERE, MOVED, TEST = "1", "2", "3"
ACCOUNTS = {
    Side.SOURCE: Payee(name="social", key="key-of-social"),
    Side.TARGET: Payee(name="marketplace", key="key-of-marketplace"),
}
PAYEES = {side: payee.name for side, payee in ACCOUNTS.items()}
NOW = datetime.now(UTC).replace(microsecond=0)
BEGAN, FLIPPED, SOLD = NOW - timedelta(hours=2), NOW - timedelta(hours=1), NOW - timedelta(minutes=30)

LINK: LiteralString = """
    CREATE SCHEMA alih;
    CREATE TABLE alih.link (entity text, source_id text, target_id text,
        PRIMARY KEY (entity, source_id), UNIQUE (entity, target_id));
    INSERT INTO alih.link VALUES ('shops', '1', '7001'), ('shops', '2', '7002'), ('shops', '3', '7003');
"""
SOURCE: LiteralString = """
    CREATE TABLE shops (shop_id bigint PRIMARY KEY, name text NOT NULL);
    CREATE TABLE orders (order_id bigint PRIMARY KEY, shop_id bigint NOT NULL, total_amount numeric(18,2) NOT NULL,
        create_time bigint NOT NULL);
    CREATE TABLE charges (charge_id bigint PRIMARY KEY, order_id bigint NOT NULL REFERENCES orders ON DELETE CASCADE,
        payee text NOT NULL, amount numeric(18,2) NOT NULL, reference text NOT NULL, status text NOT NULL,
        create_time bigint NOT NULL, settle_time bigint);
    CREATE INDEX ON charges (order_id);
    CREATE TABLE refunds (refund_id bigint PRIMARY KEY, order_id bigint NOT NULL REFERENCES orders ON DELETE CASCADE,
        refund_key text NOT NULL, amount numeric(18,2) NOT NULL, status text NOT NULL, create_time bigint NOT NULL);
    CREATE INDEX ON refunds (order_id);
    CREATE TABLE ledger (entry_id bigint PRIMARY KEY, order_id bigint, shop_id bigint NOT NULL, account text NOT NULL,
        debit numeric(18,0) NOT NULL, credit numeric(18,0) NOT NULL, create_time bigint NOT NULL);
    CREATE INDEX ON ledger (order_id);
    INSERT INTO shops VALUES (1, 'Kopi'), (2, 'Batik'), (3, 'Uji');
"""
TARGET: LiteralString = """
    CREATE TABLE seller_bindings (social_shop_id bigint PRIMARY KEY, merchant_id bigint NOT NULL);
    CREATE TABLE toko (merchant_id bigint PRIMARY KEY, title text NOT NULL);
    CREATE TABLE pesanan (id bigint PRIMARY KEY, merchant_id bigint NOT NULL, channel text NOT NULL,
        idr bigint NOT NULL, made_at timestamptz NOT NULL);
    CREATE TABLE pembayaran (id bigint PRIMARY KEY, pesanan_id bigint NOT NULL, payee text NOT NULL,
        idr bigint NOT NULL, ref text NOT NULL, state smallint NOT NULL, made_at timestamptz NOT NULL,
        settled_at timestamptz);
    CREATE INDEX ON pembayaran (pesanan_id);
    CREATE TABLE pengembalian (id bigint PRIMARY KEY, pesanan_id bigint NOT NULL, kunci text NOT NULL,
        idr bigint NOT NULL, state smallint NOT NULL, made_at timestamptz NOT NULL);
    CREATE INDEX ON pengembalian (pesanan_id);
    CREATE TABLE jurnal (no bigint PRIMARY KEY, pesanan_id bigint, merchant_id bigint NOT NULL,
        channel text NOT NULL, akun smallint NOT NULL, sisi smallint NOT NULL, idr bigint NOT NULL,
        booked_at timestamptz NOT NULL);
    CREATE INDEX ON jurnal (pesanan_id);
    INSERT INTO seller_bindings VALUES (1, 7001), (2, 7002), (3, 7003);
    INSERT INTO toko VALUES (7001, 'Kopi'), (7002, 'Batik'), (7003, 'Uji');
    INSERT INTO pesanan VALUES (900, 7001, 'own', 5000, now());
    INSERT INTO pembayaran VALUES (900, 900, 'marketplace', 5000, 'own-900', 0, now(), NULL);
    INSERT INTO jurnal VALUES (9000, 900, 7001, 'own', 1100, 1, 5000, now());
"""
TEXT = """\
migration: sold-shop
source: {kind: postgres, dsn: $SOURCE}
target: {kind: postgres, dsn: $TARGET}
tenant: {entity: shops, key: shop_id}
cohorts: [{name: all, rest: true}]
gateway:
  listen: "127.0.0.1:18080"
  front: "127.0.0.1:18081"
  source: "127.0.0.1:18082"
  target: "127.0.0.1:18083"
  tenant_from: {path: "/api/shops/{shop_id}"}
  request_max_ms: 2000
entities:
  shops:
    {from: shops, to: toko, key: {shop_id: merchant_id}, tenant: shop_id, purpose: who sells,
     link: "SELECT social_shop_id, merchant_id FROM seller_bindings",
     fields: {merchant_id: {link: shops, from: shop_id}, title: name}}
  orders:
    from: orders
    to: pesanan
    key: {order_id: id}
    tenant: shop_id
    ours: "channel = 'social'"
    purpose: what was sold
    fields:
      id: order_id
      merchant_id: {link: shops, from: shop_id}
      channel: {value: social}
      idr: {sql: "total_amount::bigint", reverse: "idr::numeric(18,2)"}
      made_at: {sql: "to_timestamp(create_time)", reverse: "extract(epoch FROM made_at)::bigint"}
  charges:
    from: charges
    to: pembayaran
    key: {charge_id: id}
    tenant: {via: orders, column: order_id}
    purpose: what was collected
    fields:
      id: charge_id
      pesanan_id: order_id
      payee: payee
      idr: {sql: "amount::bigint", reverse: "idr::numeric(18,2)"}
      ref: reference
      state: {from: status, map: {pending: 0, settlement: 2}}
      made_at: {sql: "to_timestamp(create_time)", reverse: "extract(epoch FROM made_at)::bigint"}
      settled_at: {sql: "to_timestamp(settle_time)", reverse: "extract(epoch FROM settled_at)::bigint"}
  refunds:
    from: refunds
    to: pengembalian
    key: {refund_id: id}
    tenant: {via: orders, column: order_id}
    purpose: what was given back
    fields:
      id: refund_id
      pesanan_id: order_id
      kunci: refund_key
      idr: {sql: "amount::bigint", reverse: "idr::numeric(18,2)"}
      state: {from: status, map: {pending: 0, settled: 2}}
      made_at: {sql: "to_timestamp(create_time)", reverse: "extract(epoch FROM made_at)::bigint"}
  ledger:
    from: ledger
    to: jurnal
    key: {entry_id: no}
    tenant: shop_id
    ours: "channel = 'social'"
    purpose: account for it
    fields:
      no: entry_id
      pesanan_id: order_id
      merchant_id: {link: shops, from: shop_id}
      channel: {value: social}
      akun: {from: account, map: {CLEARING: 1100, SELLER: 2100}}
      sisi: {sql: "CASE WHEN debit > 0 THEN 1 ELSE 2 END"}
      idr: {sql: "(debit + credit)::bigint"}
      booked_at: {sql: "to_timestamp(create_time)", reverse: "extract(epoch FROM booked_at)::bigint"}
    reverse:
      debit: "CASE sisi WHEN 1 THEN idr ELSE 0 END::numeric(18,0)"
      credit: "CASE sisi WHEN 2 THEN idr ELSE 0 END::numeric(18,0)"
operations:
  pay:
    front: "POST /api/shops/{shop_id}/orders/{order_id}/payment"
    target: "POST /v2/{merchant_id}/pesanan/{id}/bayar"
    purpose: pay
    path: {merchant_id: {from: path.shop_id, link: shops}, id: path.order_id}
  show_invoice:
    front: "GET /api/shops/{shop_id}/orders/{order_id}/invoice"
    target: "GET /v2/{merchant_id}/pesanan/{id}/faktur"
    purpose: prove a purchase
    path: {merchant_id: {from: path.shop_id, link: shops}, id: path.order_id}
    content: html
sales:
  zone: Asia/Jakarta
  seen_by: pay
  order: order_id
  invoice: show_invoice
  orders: {entity: orders, order: "order_id::text", amount: "total_amount::bigint", at: "to_timestamp(create_time)"}
  charges: {entity: charges, order: "order_id::text", payee: payee, amount: "amount::bigint", reference: reference,
            settled: "status = 'settlement'", at: "to_timestamp(create_time)", settled_at: "to_timestamp(settle_time)"}
  refunds: {entity: refunds, order: "order_id::text", key: refund_key, amount: "amount::bigint",
            settled: "status = 'settled'", at: "to_timestamp(create_time)"}
  books: {entity: ledger, entry: "entry_id::text", order: "order_id::text",
          received: "CASE account WHEN 'CLEARING' THEN (debit - credit)::bigint ELSE 0 END",
          at: "to_timestamp(create_time)"}
"""
SOURCE_SALE: tuple[LiteralString, ...] = (
    "INSERT INTO orders VALUES (%(order)s, %(shop)s, %(idr)s, %(at)s)",
    """INSERT INTO charges VALUES (%(order)s, %(order)s, %(payee)s, %(idr)s, %(reference)s, 'settlement', %(at)s,
                                   %(at)s)""",
    """INSERT INTO ledger VALUES (%(order)s * 10, %(order)s, %(shop)s, 'CLEARING', %(idr)s, 0, %(at)s),
                                 (%(order)s * 10 + 1, %(order)s, %(shop)s, 'SELLER', 0, %(idr)s, %(at)s)""",
)
TARGET_SALE: tuple[LiteralString, ...] = (
    "INSERT INTO pesanan VALUES (%(order)s, 7000 + %(shop)s, 'social', %(idr)s, to_timestamp(%(at)s))",
    """INSERT INTO pembayaran VALUES (%(order)s, %(order)s, %(payee)s, %(idr)s, %(reference)s, 2, to_timestamp(%(at)s),
                                      to_timestamp(%(at)s))""",
    """INSERT INTO jurnal
       VALUES (%(order)s * 10, %(order)s, 7000 + %(shop)s, 'social', 1100, 1, %(idr)s, to_timestamp(%(at)s)),
              (%(order)s * 10 + 1, %(order)s, 7000 + %(shop)s, 'social', 2100, 2, %(idr)s, to_timestamp(%(at)s))""",
)
SOURCE_REFUND: tuple[LiteralString, ...] = (
    "INSERT INTO refunds VALUES (%(refund)s, %(order)s, %(key)s, %(idr)s, 'settled', %(at)s)",
    """INSERT INTO ledger VALUES (%(refund)s * 10, %(order)s, %(shop)s, 'CLEARING', 0, %(idr)s, %(at)s),
                                 (%(refund)s * 10 + 1, %(order)s, %(shop)s, 'SELLER', %(idr)s, 0, %(at)s)""",
)
TARGET_REFUND: tuple[LiteralString, ...] = (
    "INSERT INTO pengembalian VALUES (%(refund)s, %(order)s, %(key)s, %(idr)s, 2, to_timestamp(%(at)s))",
    """INSERT INTO jurnal
       VALUES (%(refund)s * 10, %(order)s, 7000 + %(shop)s, 'social', 1100, 2, %(idr)s, to_timestamp(%(at)s)),
              (%(refund)s * 10 + 1, %(order)s, 7000 + %(shop)s, 'social', 2100, 1, %(idr)s, to_timestamp(%(at)s))""",
)
FLIP: tuple[LiteralString, ...] = (
    "UPDATE alih_control.tenant SET side = 'target', epoch = 1 WHERE tenant = %(tenant)s",
    """INSERT INTO alih_control.journal (at, tenant, phase, detail)
       VALUES (%(at)s, %(tenant)s, 'flipped', '{"owner": "target", "epoch": 1}')""",
)


@dataclass(slots=True)
class Collected:
    """A charge at the provider."""

    payee: str
    gross_idr: int
    settled_at: datetime
    state: str = "settlement"
    refunds: list[tuple[str, int]] = field(default_factory=list)

    def told(self, reference: str) -> bytes:
        """A notice or a status, signed."""
        gross, code = f"{self.gross_idr}.00", "200"
        (key,) = (payee.key for payee in ACCOUNTS.values() if payee.name == self.payee)
        said = {
            "order_id": reference,
            "status_code": code,
            "gross_amount": gross,
            "signature_key": signature(reference, code, gross, key),
            "transaction_status": self.state,
            "transaction_id": reference,
            "settlement_time": f"{self.settled_at + timedelta(hours=7):%Y-%m-%d %H:%M:%S}",
            "refunds": [{"refund_key": name, "refund_amount": f"{idr}.00"} for name, idr in self.refunds],
        }
        return json.dumps(said).encode()


@dataclass(slots=True)
class Collector:
    """The payment provider's status API: an account knows only its own charges."""

    charges: dict[str, Collected] = field(default_factory=dict)

    async def status(self, request: web.Request) -> web.Response:
        reference = request.match_info["reference"]
        charge = self.charges.get(reference)
        shown = [p.name for p in ACCOUNTS.values() if encode_basic_auth(p.key, "") == request.headers["Authorization"]]
        if charge is None or shown != [charge.payee]:
            return web.json_response({"status_code": "404", "status_message": "no such transaction"}, status=404)
        return web.Response(body=charge.told(reference), content_type="application/json")


@dataclass(slots=True)
class Shown:
    """The gateway, which shows invoices: a plain one, unless a test gives another or a redirect."""

    documents: dict[str, str] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)

    async def invoice(self, request: web.Request) -> web.Response:
        order = request.match_info["order"]
        if order in self.redirects:
            return web.Response(status=302, headers={"Location": self.redirects[order]})
        plain = f'<link rel=stylesheet href="/shop.css"><p>{order}</p><a href="/#/orders">Pesanan saya</a>'
        return web.Response(text=self.documents.get(order, plain), content_type="text/html")


@dataclass(frozen=True, slots=True, kw_only=True)
class SoldShop:
    """Everything open and connected. `sold` and `gave_back` record on both sides, as after all copies have crossed."""

    contract: Contract
    dsns: Mapping[Side, str]
    control_dsn: str
    books: Mapping[Side, Books]
    control: Control
    seen: SeenStore
    ledgers: Ledgers
    tracer: Tracer
    reconciler: Reconciler
    custody: Custody
    collector: Collector
    shown: Shown

    def source(self, *statements: LiteralString, **values: Any) -> None:
        _execute(self.dsns[Side.SOURCE], statements, values)

    def target(self, *statements: LiteralString, **values: Any) -> None:
        _execute(self.dsns[Side.TARGET], statements, values)

    async def sold(self, order: int, shop: str, idr: int = 145_000, *, at: datetime = SOLD, payee: str = "") -> None:
        """A settled sale, seen, charged, booked, told. By default for the account of the owner at that time."""
        side = Side.TARGET if shop != HERE and at >= FLIPPED else Side.SOURCE
        payee = payee or PAYEES[side]
        values = {"order": order, "shop": int(shop), "idr": idr, "payee": payee, "reference": f"ref-{order}"}
        values["at"] = int(at.timestamp())
        self.source(*SOURCE_SALE, **values)
        self.target(*TARGET_SALE, **values)
        self.collector.charges[f"ref-{order}"] = Collected(payee, idr, at)
        await self.told(order, shop, at)
        epoch = 1 if side is Side.TARGET else 0
        call = Call(order=str(order), tenant=shop, side=side, epoch=epoch, at=at, status=200)
        await self.seen.keep([call], Place(0, 0))

    async def gave_back(self, refund: int, order: int, shop: str, idr: int, *, at: datetime = SOLD) -> None:
        """A settled refund, booked and told."""
        values = {"refund": refund, "order": order, "shop": int(shop), "idr": idr, "key": f"key-{refund}"}
        values["at"] = int(at.timestamp())
        self.source(*SOURCE_REFUND, **values)
        self.target(*TARGET_REFUND, **values)
        charge = self.collector.charges[f"ref-{order}"]
        charge.state = "partial_refund"
        charge.refunds.append((f"key-{refund}", idr))
        await self.told(order, shop, at)

    async def told(self, order: int, shop: str, at: datetime, *, delivered: bool = True) -> None:
        """The provider's notice as it is now, kept at that time, and delivered."""
        reference = f"ref-{order}"
        body = self.collector.charges[reference].told(reference)
        await self.custody.keep(arrived(shop, f"/api/shops/{shop}/payments/notices", body, ACCOUNTS))
        self.controlled(
            "UPDATE alih_control.notice SET received_at = %(at)s, delivered_at = CASE WHEN %(delivered)s THEN now() END"
            " WHERE id = (SELECT max(id) FROM alih_control.notice)",
            at=at,
            delivered=delivered,
        )

    def controlled(self, *statements: LiteralString, **values: Any) -> None:
        _execute(self.control_dsn, statements, values)

    def empty(self) -> None:
        """Back to no sale at all."""
        self.source("DELETE FROM orders", "DELETE FROM ledger")
        self.target("DELETE FROM pesanan WHERE id <> 900", "DELETE FROM pembayaran WHERE id <> 900")
        self.target("DELETE FROM jurnal WHERE no <> 9000", "DELETE FROM pengembalian")
        self.controlled("DELETE FROM alih_control.seen", "DELETE FROM alih_control.notice")
        self.collector.charges.clear()
        self.shown.documents.clear()
        self.shown.redirects.clear()


def _execute(dsn: str, statements: Iterable[LiteralString], values: Mapping[str, Any]) -> None:
    with psycopg.connect(dsn, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement, values or None)


@asynccontextmanager
async def sold_shop(databases: Databases, directory: Path) -> AsyncIterator[SoldShop]:
    """Both back ends without a sale, the control database with its owners, the provider, the gateway."""
    _execute(databases.source, [SOURCE, LINK], {})
    _execute(databases.target, [TARGET, LINK], {})
    contract, projections = await _compiled(databases, directory)
    assert contract.sales is not None
    async with AsyncExitStack() as stack:
        control_line = await stack.enter_async_context(Line(databases.control, "the control database"))
        control, seen = Control(control_line), SeenStore(control_line)
        await _installed(control, seen, databases.control)
        dsns = {Side.SOURCE: databases.source, Side.TARGET: databases.target}
        books = {
            side: await stack.enter_async_context(Books(dsn, side, contract.sales, projections))
            for side, dsn in dsns.items()
        }
        custody, collector, shown = Custody(control_line), Collector(), Shown()
        await custody.install()
        session = await stack.enter_async_context(aiohttp.ClientSession())
        served = await stack.enter_async_context(_serving(shown, collector))
        invoices, provider = Invoices.of(contract, session, served), Provider(session, served, ACCOUNTS)
        ledgers = Ledgers(books, control, seen, {TEST}, look_pause_s=0.0)
        yield SoldShop(
            contract=contract,
            dsns=dsns,
            control_dsn=databases.control,
            books=books,
            control=control,
            seen=seen,
            ledgers=ledgers,
            tracer=Tracer(ledgers, seen, provider, invoices, PAYEES, look_pause_s=0.0),
            reconciler=Reconciler(ledgers, Words(custody), provider, seen, PAYEES, "Asia/Jakarta", look_pause_s=0.0),
            custody=custody,
            collector=collector,
            shown=shown,
        )


async def _compiled(databases: Databases, directory: Path) -> tuple[Contract, tuple[Any, ...]]:
    file = directory / "alih.yaml"
    file.write_text(TEXT, encoding="utf-8")
    contract = load(file, {"SOURCE": databases.source, "TARGET": databases.target})
    catalogs = []
    for dsn in (databases.source, databases.target):
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            catalogs.append(await catalog.read(connection))
    assert not (problems := check(contract, *catalogs)), "\n".join(map(str, problems))
    compiled = compile(contract, *catalogs)
    return contract, (*compiled.forward, *compiled.reverse)


async def _installed(control: Control, seen: SeenStore, dsn: str) -> None:
    await control.install()
    await seen.install()
    await control.admit(dict.fromkeys((HERE, MOVED, TEST), "all"))
    for tenant in (MOVED, TEST):
        _execute(dsn, FLIP, {"tenant": tenant, "at": FLIPPED})
    _execute(dsn, ["UPDATE alih_control.seen_log SET since = %(at)s"], {"at": BEGAN})


@asynccontextmanager
async def _serving(shown: Shown, collector: Collector) -> AsyncIterator[str]:
    app = web.Application()
    app.router.add_get("/v2/{reference}/status", collector.status)
    app.router.add_get("/api/shops/{shop}/orders/{order}/invoice", shown.invoice)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0]
        yield f"http://{host}:{port}"
    finally:
        await runner.cleanup()
