"""How the shop shows an order; the database makes the strings."""

from typing import Any

OPERATOR = "Social (modelled on TikTok Shop)"

ORDER = """
    SELECT order_id::text, status, total_amount::text, create_time,
           (SELECT json_agg(json_build_object('product_id', product_id::text, 'title', title,
                                              'quantity', quantity, 'price', price::text) ORDER BY line_no)
            FROM order_lines WHERE order_lines.order_id = orders.order_id) AS items,
           (SELECT status FROM charges WHERE charges.order_id = orders.order_id) AS payment_status
    FROM orders WHERE order_id = %(order)s AND shop_id = %(shop)s AND buyer_id = %(buyer)s"""


def order_shown(order: dict[str, Any], shop: int, *fields: str) -> dict[str, Any]:
    """An ORDER row with the named fields, who processed it, and where its invoice is."""
    path = f"/api/shops/{shop}/orders/{order['order_id']}/invoice"
    return {name: order[name] for name in fields} | {"processed_by": OPERATOR, "invoice_url": path}
