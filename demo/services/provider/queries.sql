-- name: answered
-- Whoever repeats a key gets the first answer for five minutes, whatever the body says.
SELECT body FROM answers
WHERE account = %(account)s AND idempotency_key = %(key)s AND given_at > now() - interval '5 minutes'

-- name: keep_answer
INSERT INTO answers (account, idempotency_key, body) VALUES (%(account)s, %(key)s, %(body)s)
ON CONFLICT (account, idempotency_key) DO UPDATE SET body = excluded.body, given_at = excluded.given_at

-- name: new_charge
INSERT INTO charges (order_id, account, payment_type, gross_amount, va_number, qr_string, notification_url, paid_by)
VALUES (%(order)s, %(account)s, %(type)s, %(amount)s, %(va)s, %(qr)s, %(url)s,
        now() + make_interval(secs => %(paid_after_s)s))
ON CONFLICT DO NOTHING RETURNING order_id

-- name: lock
-- A charge is asked for by its order or by its transaction.
SELECT order_id FROM charges WHERE account = %(account)s AND %(order)s IN (order_id, transaction_id::text) FOR UPDATE

-- name: charge
SELECT charges.*, refunded, refunds
FROM charges,
LATERAL (SELECT coalesce(sum(amount), 0)::bigint AS refunded,
                coalesce(json_agg(json_build_object(
                    'refund_chargeback_id', refund_id, 'refund_amount', amount || '.00',
                    'created_at', to_char(created_at AT TIME ZONE 'Asia/Jakarta', 'YYYY-MM-DD HH24:MI:SS'),
                    'reason', reason, 'refund_key', refund_key, 'refund_method', 'online') ORDER BY refund_id), '[]')
                AS refunds
         FROM refunds WHERE refunds.order_id = charges.order_id) AS given_back
WHERE account = coalesce(%(account)s, account) AND %(order)s IN (charges.order_id, transaction_id::text)

-- name: settle
UPDATE charges SET transaction_status = 'settlement', settlement_time = now()
WHERE order_id = %(order)s AND transaction_status = 'pending' RETURNING order_id

-- name: move_on
UPDATE charges SET transaction_status = %(status)s WHERE order_id = %(order)s

-- name: new_refund
INSERT INTO refunds (order_id, refund_key, amount, reason) VALUES (%(order)s, %(key)s, %(amount)s, %(reason)s)

-- name: note
INSERT INTO notices (order_id, body, lost) VALUES (%(order)s, %(body)s, %(lost)s)
RETURNING notice_id, order_id, body, lost, (SELECT notification_url FROM charges WHERE order_id = %(order)s) AS url

-- name: taken
UPDATE notices SET taken_at = now() WHERE notice_id = %(notice_id)s

-- name: untaken
SELECT notice_id, order_id, body, lost, notification_url AS url FROM notices JOIN charges USING (order_id)
WHERE taken_at IS NULL ORDER BY notice_id

-- name: unpaid
SELECT order_id, greatest(0, extract(epoch FROM paid_by - now()))::float8 AS paid_after_s FROM charges
WHERE transaction_status = 'pending' AND paid_by IS NOT NULL
