"""What the audit asks the databases: the same questions of both back ends, in the words of each schema."""

from dataclasses import dataclass
from typing import LiteralString


@dataclass(frozen=True, slots=True, kw_only=True)
class Queries:
    """Every query gives ids as text and money in whole rupiah; shops go by the id that the social side knows."""

    orders: LiteralString
    lines: LiteralString
    charges: LiteralString
    bookings: LiteralString
    keys: LiteralString
    stock: LiteralString


LEGACY = Queries(
    orders="""
        SELECT order_id::text, shop_id::text, 'social' AS channel, total_amount::bigint AS amount_idr,
               status NOT IN ('UNPAID', 'CANCELLED') AS paid
          FROM orders""",
    lines="SELECT order_id::text, product_id::text, sum(quantity)::int AS quantity FROM order_lines GROUP BY 1, 2",
    charges="""
        SELECT charge_id::text, order_id::text, amount::bigint AS amount_idr, provider_order_id AS reference
          FROM charges""",
    bookings="""
        SELECT order_id::text, sum(debit - credit)::bigint AS balance_idr,
               coalesce(sum(debit) FILTER (WHERE account = 'CLEARING'), 0)::bigint AS booked_idr,
               coalesce(array_agg(entry_id::text) FILTER (WHERE account = 'CLEARING'), '{}') AS entries
          FROM ledger GROUP BY order_id""",
    keys="SELECT shop_id::text, key, order_id::text FROM idempotency WHERE kind = 'checkout'",
    stock="SELECT product_id::text, shop_id::text, on_hand FROM stock",
)

MARKETPLACE = Queries(
    orders="""
        SELECT o.order_id::text, coalesce(b.social_shop_id::text, '') AS shop_id, o.channel, o.amount_idr,
               o.status >= 220 AS paid
          FROM trade_orders o LEFT JOIN seller_bindings b USING (merchant_id)""",
    lines="""
        SELECT order_id::text, item_id::text AS product_id, sum(qty)::int AS quantity
          FROM trade_order_items GROUP BY 1, 2""",
    charges="""
        SELECT payment_id::text AS charge_id, order_id::text, amount_idr, gateway_reference AS reference
          FROM payments""",
    bookings="""
        SELECT order_id::text, sum(CASE side WHEN 1 THEN amount_idr ELSE -amount_idr END)::bigint AS balance_idr,
               coalesce(sum(amount_idr) FILTER (WHERE account = 1100 AND side = 1), 0)::bigint AS booked_idr,
               coalesce(array_agg(entry_id::text) FILTER (WHERE account = 1100), '{}') AS entries
          FROM journal_entries GROUP BY order_id""",
    keys="""
        SELECT b.social_shop_id::text AS shop_id, k.request_key AS key, k.order_id::text
          FROM request_keys k JOIN seller_bindings b USING (merchant_id)
         WHERE k.kind = 'checkout' AND k.channel = 'social'""",
    stock="""
        SELECT i.item_id::text AS product_id, b.social_shop_id::text AS shop_id, i.available AS on_hand
          FROM inventory i JOIN seller_bindings b USING (merchant_id)
         WHERE i.channel = 'social'""",
)

PROVIDER: LiteralString = """
    SELECT order_id AS reference, gross_amount AS amount_idr, transaction_status = 'settlement' AS settled
      FROM charges"""
