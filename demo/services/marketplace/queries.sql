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
       qr_payload AS qr_string, state AS status, social_shop_id AS shop_id
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
SELECT payee, payments.amount_idr AS amount FROM payments JOIN trade_orders USING (order_id)
WHERE gateway_reference = %(reference)s AND merchant_id = %(shop)s

-- name: settle
UPDATE payments SET state = 2, settled_at = date_trunc('second', now())
WHERE gateway_reference = %(reference)s AND state = 0 RETURNING order_id, amount_idr AS amount

-- name: mark_paid
UPDATE trade_orders SET status = 220, paid_at = date_trunc('second', now())
WHERE order_id = %(order)s AND status IN (100, 103)

-- name: book
INSERT INTO journal_entries (order_id, merchant_id, channel, event, account, side, amount_idr, booked_at)
SELECT %(order)s, %(shop)s, 'social', 10, account, side, amount, date_trunc('second', now())
FROM (VALUES (1100, 1, %(amount)s), (2100, 2, %(amount)s - %(fee)s), (4100, 2, %(fee)s))
     AS entry (account, side, amount)

-- name: orders_of_buyer
SELECT order_id, merchant_id, status, amount_idr FROM trade_orders
WHERE user_id = %(buyer)s AND channel = 'social' ORDER BY created_at DESC, order_id DESC LIMIT %(limit)s

-- name: profile
SELECT user_id, full_name, phone_number, email, city, national_id FROM users WHERE user_id = %(buyer)s

-- name: change_profile
UPDATE users SET full_name = %(full_name)s, phone_number = %(phone_number)s, email = %(email)s, city = %(city)s
WHERE user_id = %(buyer)s RETURNING user_id, full_name, phone_number, email, city, national_id
