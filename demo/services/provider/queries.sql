-- name: known
-- Whoever repeats a key gets the first answer for five minutes, whatever the body says.
SELECT * FROM charges WHERE idempotency_key = %(key)s AND transaction_time > now() - interval '5 minutes'

-- name: charge
INSERT INTO charges (order_id, idempotency_key, account, payment_type, gross_amount, va_number, qr_string,
                     notification_url)
VALUES (%(order)s, %(key)s, %(account)s, %(type)s, %(amount)s, %(va)s, %(qr)s, %(url)s)
ON CONFLICT DO NOTHING RETURNING *

-- name: status
SELECT * FROM charges WHERE order_id = %(order)s AND account = %(account)s

-- name: settle
UPDATE charges SET transaction_status = 'settlement', settlement_time = coalesce(settlement_time, now())
WHERE order_id = %(order)s RETURNING *

-- name: untold
SELECT order_id FROM charges WHERE notified_at IS NULL AND notification_url IS NOT NULL

-- name: told
UPDATE charges SET notified_at = now() WHERE order_id = %(order)s
