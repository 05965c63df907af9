-- name: shop
SELECT merchant_id, display_name, city, (rating_tenths / 10.0)::numeric(2,1)::text AS rating,
       %(operator)s AS processed_by
FROM social_storefronts WHERE merchant_id = %(shop)s

-- name: products
SELECT item_id, title, price_idr, available, picture, min_order FROM catalog_items JOIN inventory USING (item_id)
WHERE catalog_items.merchant_id = %(shop)s AND catalog_items.channel = 'social' AND state = 1
ORDER BY item_id

-- name: product
SELECT item_id, title, description, price_idr, available, picture, min_order
FROM catalog_items JOIN inventory USING (item_id)
WHERE catalog_items.merchant_id = %(shop)s AND item_id = %(product)s AND catalog_items.channel = 'social' AND state = 1

-- name: cart
SELECT coalesce(json_agg(json_build_object('item_id', item_id, 'title', title, 'qty', qty, 'price_idr', price_idr)
                         ORDER BY item_id), '[]') AS items,
       coalesce(sum(price_idr * qty), 0)::bigint AS amount_idr
FROM basket_items JOIN catalog_items USING (item_id)
WHERE user_id = %(buyer)s AND basket_items.merchant_id = %(shop)s AND basket_items.channel = 'social'

-- name: add
INSERT INTO basket_items (user_id, merchant_id, item_id, channel, qty, added_at)
SELECT user_id, merchant_id, item_id, catalog_items.channel, %(quantity)s, date_trunc('second', now())
FROM catalog_items, users
WHERE item_id = %(product)s AND merchant_id = %(shop)s AND catalog_items.channel = 'social' AND state = 1
  AND user_id = %(buyer)s
ON CONFLICT (user_id, merchant_id, item_id) DO UPDATE SET qty = least(basket_items.qty + excluded.qty, 99)
RETURNING item_id

-- name: claim_checkout
INSERT INTO request_keys (merchant_id, request_key, kind, channel, order_id, first_seen)
SELECT merchant_id, %(key)s, 'checkout', 'social', nextval('trade_orders_order_id_seq'), date_trunc('second', now())
FROM social_storefronts WHERE merchant_id = %(shop)s
ON CONFLICT DO NOTHING RETURNING order_id

-- name: known_checkout
SELECT order_id FROM request_keys WHERE merchant_id = %(shop)s AND request_key = %(key)s AND kind = 'checkout'

-- name: take_cart
DELETE FROM basket_items USING catalog_items
WHERE user_id = %(buyer)s AND basket_items.merchant_id = %(shop)s AND basket_items.channel = 'social'
  AND catalog_items.item_id = basket_items.item_id
RETURNING basket_items.item_id AS product_id, title, qty AS quantity, price_idr AS price

-- name: take_stock
UPDATE inventory SET available = available - %(quantity)s
WHERE item_id = %(product_id)s AND available >= %(quantity)s

-- name: new_order
INSERT INTO trade_orders (order_id, merchant_id, channel, user_id, status, amount_idr, recipient_name,
                          recipient_phone, recipient_street, recipient_city, created_at)
VALUES (%(order)s, %(shop)s, 'social', %(buyer)s, 100, %(total)s, %(name)s, %(phone)s, %(street)s, %(city)s,
        date_trunc('second', now()))

-- name: new_line
INSERT INTO trade_order_items (order_id, position, item_id, title, qty, price_idr)
VALUES (%(order)s, %(line)s, %(product_id)s, %(title)s, %(quantity)s, %(price)s)

-- name: order
-- It says more than partners need (the buyer's phone and national id): who passes it on has to know what to leave out.
SELECT order_id, merchant_id, trade_orders.status, amount_idr,
       extract(epoch FROM created_at)::bigint AS created_unix,
       phone_number AS buyer_phone, national_id AS buyer_national_id,
       (SELECT json_agg(json_build_object('item_id', item_id, 'title', title, 'qty', qty,
                                          'price_idr', price_idr) ORDER BY position)
        FROM trade_order_items WHERE trade_order_items.order_id = trade_orders.order_id) AS items,
       (SELECT state FROM payments WHERE payments.order_id = trade_orders.order_id) AS payment_state,
       %(operator)s AS processed_by,
       format('/api/shops/%%s/orders/%%s/invoice', social_shop_id, order_id) AS invoice_path
FROM trade_orders JOIN users USING (user_id) JOIN seller_bindings USING (merchant_id)
WHERE order_id = %(order)s AND merchant_id = %(shop)s AND user_id = %(buyer)s
  AND trade_orders.channel = 'social'

-- name: invoice
SELECT order_id, display_name AS shop, amount_idr, paid_at IS NOT NULL AS paid, %(operator)s AS processed_by
FROM trade_orders JOIN social_storefronts USING (merchant_id)
WHERE merchant_id = %(shop)s AND order_id = %(order)s AND channel = 'social'

-- name: lock_order
SELECT order_id, status IN (100, 103) AS payable, amount_idr AS amount FROM trade_orders
WHERE order_id = %(order)s AND merchant_id = %(shop)s AND user_id = %(buyer)s AND channel = 'social'
FOR UPDATE

-- name: charge
SELECT payment_id AS charge_id, order_id, payee, method, CASE method WHEN 1 THEN 'va' ELSE 'qris' END AS pays_by,
       payments.amount_idr AS amount, gateway_reference AS reference, gateway_transaction AS transaction_id, va_number,
       qr_payload AS qr_string, state AS status, social_shop_id AS shop_id, merchant_id AS shop,
       state IN (2, 4, 5) AS paid,
       (SELECT coalesce(sum(amount_idr), 0)::bigint FROM payment_refunds
        WHERE payment_refunds.order_id = payments.order_id AND state <> 3) AS promised
FROM payments JOIN trade_orders USING (order_id) JOIN seller_bindings USING (merchant_id)
WHERE order_id = %(order)s

-- name: new_charge
WITH awaited AS (UPDATE trade_orders SET status = 103 WHERE order_id = %(order)s AND status = 100)
INSERT INTO payments (order_id, payee, method, amount_idr, gateway_reference, state, created_at)
VALUES (%(order)s, 'marketplace', %(method)s, %(amount)s, %(reference)s, 0, date_trunc('second', now()))

-- name: claim_payment
INSERT INTO request_keys (merchant_id, request_key, kind, channel, order_id, payment_id, first_seen)
VALUES (%(shop)s, %(key)s, 'payment', 'social', %(order)s, %(charge)s, date_trunc('second', now()))
ON CONFLICT DO NOTHING

-- name: known_payment
SELECT order_id FROM request_keys WHERE merchant_id = %(shop)s AND request_key = %(key)s AND kind = 'payment'

-- name: store_answer
UPDATE payments SET gateway_transaction = %(transaction_id)s, va_number = %(va_number)s, qr_payload = %(qr_string)s
WHERE payment_id = %(charge_id)s

-- name: charge_of_notice
SELECT payment_id AS charge_id, order_id, merchant_id AS shop, payee, payments.amount_idr AS amount,
       gateway_reference AS reference
FROM payments JOIN trade_orders USING (order_id)
WHERE gateway_reference = %(reference)s AND merchant_id = %(shop)s

-- name: lock_sale
SELECT order_id FROM trade_orders WHERE order_id = %(order_id)s FOR UPDATE

-- name: settle
UPDATE payments SET state = 2, settled_at = date_trunc('second', now())
WHERE payment_id = %(charge_id)s AND state = 0 RETURNING payment_id

-- name: mark_paid
UPDATE trade_orders SET status = 220, paid_at = date_trunc('second', now())
WHERE order_id = %(order_id)s AND status IN (100, 103)

-- name: book
INSERT INTO journal_entries (order_id, merchant_id, channel, event, account, side, amount_idr, booked_at)
SELECT %(order_id)s, %(shop)s, 'social', 10, account, side, amount, date_trunc('second', now())
FROM (VALUES (1100, 1, %(amount)s), (2100, 2, %(amount)s - %(fee)s), (4100, 2, %(fee)s))
     AS entry (account, side, amount)

-- name: give_up
WITH ended AS (
    UPDATE payments SET state = CASE WHEN %(expired)s THEN 8 ELSE 7 END
    WHERE payment_id = %(charge_id)s AND state = 0 RETURNING order_id
), cancelled AS (
    UPDATE trade_orders SET status = 10 FROM ended
    WHERE trade_orders.order_id = ended.order_id AND status IN (100, 103) RETURNING trade_orders.order_id
)
UPDATE inventory SET available = available + qty FROM trade_order_items JOIN cancelled USING (order_id)
WHERE inventory.item_id = trade_order_items.item_id

-- name: new_refund
-- What the provider calls it follows from its id, so a retried attempt is the same attempt.
WITH new AS (
    INSERT INTO payment_refunds (refund_id, order_id, gateway_refund, amount_idr, reason, state, requested_at)
    SELECT id, %(order)s, 'REFUND-' || id, %(amount)s, %(reason)s, 0, date_trunc('second', now())
    FROM nextval('payment_refunds_refund_id_seq') AS id RETURNING refund_id
)
INSERT INTO request_keys (merchant_id, request_key, kind, channel, order_id, refund_id, first_seen)
SELECT %(shop)s, %(key)s, 'refund', 'social', %(order)s, refund_id, date_trunc('second', now()) FROM new

-- name: known_refund
SELECT refund_id, payment_refunds.order_id, gateway_refund AS refund_key, amount_idr AS amount, reason,
       state AS status, state = 0 AS pending
FROM request_keys JOIN payment_refunds USING (refund_id)
WHERE merchant_id = %(shop)s AND request_key = %(key)s AND kind = 'refund'

-- name: refuse_refund
UPDATE payment_refunds SET state = 3 WHERE refund_id = %(refund_id)s AND state = 0

-- name: given_back
SELECT coalesce(sum(amount_idr), 0)::bigint AS given_back FROM payment_refunds
WHERE order_id = %(order_id)s AND state = 2

-- name: settle_refund
INSERT INTO payment_refunds (order_id, gateway_refund, amount_idr, reason, state, requested_at)
VALUES (%(order_id)s, %(refund_key)s, %(amount)s, %(reason)s, 2, date_trunc('second', now()))
ON CONFLICT (order_id, gateway_refund) DO UPDATE SET state = 2 WHERE payment_refunds.state <> 2
RETURNING refund_id

-- name: book_refund
INSERT INTO journal_entries (order_id, merchant_id, channel, event, refund_id, account, side, amount_idr, booked_at)
SELECT %(order_id)s, %(shop)s, 'social', 20, %(refund_id)s, account, side, amount, date_trunc('second', now())
FROM (VALUES (1100, 2, %(amount)s), (2100, 1, %(amount)s - %(fee)s), (4100, 1, %(fee)s))
     AS entry (account, side, amount)
WHERE amount > 0

-- name: mark_refunded
UPDATE payments SET state = CASE WHEN %(whole)s THEN 5 ELSE 4 END WHERE payment_id = %(charge_id)s

-- name: orders_of_buyer
SELECT order_id, merchant_id, status, amount_idr FROM trade_orders
WHERE user_id = %(buyer)s AND channel = 'social' ORDER BY created_at DESC, order_id DESC LIMIT %(limit)s

-- name: profile
SELECT user_id, full_name, phone_number, email, city, national_id FROM users WHERE user_id = %(buyer)s

-- name: change_profile
UPDATE users SET full_name = %(full_name)s, phone_number = %(phone_number)s, email = %(email)s, city = %(city)s
WHERE user_id = %(buyer)s RETURNING user_id, full_name, phone_number, email, city, national_id
