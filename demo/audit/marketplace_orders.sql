-- Every order with what hangs on it; the columns are the fields of books.Recorded.
SELECT order_id::text, coalesce(social_shop_id::text, '') AS shop_id, channel = 'social' AS social,
       trade_orders.amount_idr, status >= 220 AS paid, coalesce(lines, '[]') AS lines,
       coalesce(keys, '{}') AS keys, payment_id::text AS charge_id, gateway_reference AS reference,
       coalesce(entries, '{}') AS entries, coalesce(booked_idr, 0) AS booked_idr, coalesce(balance_idr, 0) AS balance_idr,
       coalesce(refunds, '[]') AS refunds
FROM trade_orders
LEFT JOIN seller_bindings USING (merchant_id)
LEFT JOIN payments USING (order_id)
LEFT JOIN (SELECT order_id, json_agg(json_build_array(item_id::text, qty)) AS lines
           FROM trade_order_items GROUP BY order_id) AS of_items USING (order_id)
LEFT JOIN (SELECT order_id, array_agg(request_key) AS keys
           FROM request_keys WHERE kind = 'checkout' AND channel = 'social' GROUP BY order_id) AS of_keys USING (order_id)
LEFT JOIN (SELECT order_id, sum(CASE side WHEN 1 THEN amount_idr ELSE -amount_idr END)::bigint AS balance_idr,
                  sum(CASE side WHEN 1 THEN amount_idr ELSE -amount_idr END)
                      FILTER (WHERE account = 1100)::bigint AS booked_idr,
                  array_agg(entry_id::text) FILTER (WHERE account = 1100 AND event = 10) AS entries
           FROM journal_entries GROUP BY order_id) AS of_journal USING (order_id)
LEFT JOIN (SELECT order_id, json_agg(json_build_array(refund_id::text, gateway_refund, amount_idr)
                                     ORDER BY refund_id) AS refunds
           FROM payment_refunds WHERE state = 2 GROUP BY order_id) AS of_refunds USING (order_id)
