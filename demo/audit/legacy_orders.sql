-- Every order with what hangs on it; the columns are the fields of books.Recorded.
SELECT order_id::text, orders.shop_id::text, true AS social, total_amount::bigint AS amount_idr,
       orders.status NOT IN ('UNPAID', 'CANCELLED') AS paid, coalesce(lines, '[]') AS lines,
       coalesce(keys, '{}') AS keys, charge_id::text, provider_order_id AS reference,
       coalesce(entries, '{}') AS entries, coalesce(booked_idr, 0) AS booked_idr, coalesce(balance_idr, 0) AS balance_idr,
       coalesce(refunds, '[]') AS refunds
FROM orders
LEFT JOIN charges USING (order_id)
LEFT JOIN (SELECT order_id, json_agg(json_build_array(product_id::text, quantity)) AS lines
           FROM order_lines GROUP BY order_id) AS of_lines USING (order_id)
LEFT JOIN (SELECT order_id, array_agg(key) AS keys
           FROM idempotency WHERE kind = 'checkout' GROUP BY order_id) AS of_keys USING (order_id)
LEFT JOIN (SELECT order_id, sum(debit - credit)::bigint AS balance_idr,
                  sum(debit - credit) FILTER (WHERE account = 'CLEARING')::bigint AS booked_idr,
                  array_agg(entry_id::text) FILTER (WHERE account = 'CLEARING' AND event = 'SETTLEMENT') AS entries
           FROM ledger GROUP BY order_id) AS of_ledger USING (order_id)
LEFT JOIN (SELECT order_id, json_agg(json_build_array(refund_id::text, refund_key, amount::bigint)
                                     ORDER BY refund_id) AS refunds
           FROM refunds WHERE status = 'settled' GROUP BY order_id) AS of_refunds USING (order_id)
