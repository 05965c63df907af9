"""How the marketplace answers its partners: an envelope, whole numbers, numeric states.

An order's answer says more than partners need (the buyer's phone and national id): whoever passes it on has to know
what to leave out.
"""

from typing import Any

from starlette.responses import Response

from demo.services.web import answer

OPERATOR = "Marketplace (modelled on Tokopedia)"
CHANNEL = "social"

ORDER = """
    SELECT order_id, merchant_id, trade_orders.status, amount_idr,
           extract(epoch FROM created_at)::bigint AS created_unix,
           phone_number AS buyer_phone, national_id AS buyer_national_id, social_shop_id,
           (SELECT json_agg(json_build_object('item_id', item_id, 'title', title, 'qty', qty,
                                              'price_idr', price_idr) ORDER BY position)
            FROM trade_order_items WHERE trade_order_items.order_id = trade_orders.order_id) AS items,
           (SELECT state FROM payments WHERE payments.order_id = trade_orders.order_id) AS payment_state
    FROM trade_orders JOIN users USING (user_id) JOIN seller_bindings USING (merchant_id)
    WHERE order_id = %(order)s AND merchant_id = %(merchant)s AND user_id = %(user)s
      AND trade_orders.channel = 'social'"""


def enveloped(data: object, status: int = 200) -> Response:
    return answer({"header": {"messages": "Your request has been processed successfully"}, "data": data}, status)


def refusal(code: str, message: str, status: int) -> Response:
    return answer({"header": {"messages": "Your request was refused"}, "error": _error(code, message)}, status)


def _error(code: str, message: str) -> dict[str, str]:
    return {"code": code, "message": message}


def order_shown(order: dict[str, Any]) -> dict[str, Any]:
    """An ORDER row, who processed it, and where shoppers of the social channel find its invoice."""
    path = f"/api/shops/{order.pop('social_shop_id')}/orders/{order['order_id']}/invoice"
    return order | {"processed_by": OPERATOR, "invoice_path": path}
