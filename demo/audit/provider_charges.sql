-- Shops make their references of the order's id; a reference without one stands for itself.
SELECT coalesce(substring(order_id FROM '\d{10,}'), order_id) AS order_id, order_id AS reference,
       gross_amount AS amount_idr, transaction_status IN ('settlement', 'partial_refund', 'refund') AS settled,
       (SELECT coalesce(json_agg(json_build_array(refund_key, amount)), '[]') FROM refunds
        WHERE refunds.order_id = charges.order_id) AS refunds
FROM charges
