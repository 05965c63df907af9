-- name: shop
SELECT shop_id::text, name, city, rating::text, %(operator)s AS processed_by FROM shops WHERE shop_id = %(shop)s

-- name: products
SELECT product_id::text, title, price::text, on_hand AS stock, image
FROM products JOIN stock USING (product_id)
WHERE products.shop_id = %(shop)s AND status = 'ACTIVATE' ORDER BY product_id

-- name: product
SELECT product_id::text, title, description, price::text, on_hand AS stock, image
FROM products JOIN stock USING (product_id)
WHERE products.shop_id = %(shop)s AND product_id = %(product)s AND status = 'ACTIVATE'

-- name: cart
SELECT coalesce(json_agg(json_build_object('product_id', product_id::text, 'title', title, 'quantity', quantity,
                                           'price', price::text) ORDER BY product_id), '[]') AS items,
       coalesce(sum(price * quantity), 0)::numeric(18,2)::text AS total_amount
FROM carts JOIN products USING (product_id) WHERE buyer_id = %(buyer)s AND carts.shop_id = %(shop)s

-- name: add
INSERT INTO carts (buyer_id, shop_id, product_id, quantity, add_time)
SELECT buyer_id, shop_id, product_id, %(quantity)s, %(now)s FROM products, buyers
WHERE product_id = %(product)s AND shop_id = %(shop)s AND status = 'ACTIVATE' AND buyer_id = %(buyer)s
ON CONFLICT (buyer_id, shop_id, product_id)
DO UPDATE SET quantity = least(carts.quantity + excluded.quantity, 99)
RETURNING product_id

-- name: claim_checkout
INSERT INTO idempotency (shop_id, key, kind, order_id, create_time)
SELECT shop_id, %(key)s, 'checkout', nextval('orders_order_id_seq'), %(now)s FROM shops WHERE shop_id = %(shop)s
ON CONFLICT DO NOTHING RETURNING order_id

-- name: known_checkout
SELECT order_id FROM idempotency WHERE shop_id = %(shop)s AND key = %(key)s AND kind = 'checkout'

-- name: take_cart
DELETE FROM carts USING products
WHERE carts.buyer_id = %(buyer)s AND carts.shop_id = %(shop)s AND products.product_id = carts.product_id
RETURNING carts.product_id, title, quantity, price

-- name: take_stock
UPDATE stock SET on_hand = on_hand - %(quantity)s WHERE product_id = %(product_id)s AND on_hand >= %(quantity)s

-- name: new_order
INSERT INTO orders (order_id, shop_id, buyer_id, status, total_amount, address, create_time)
VALUES (%(order)s, %(shop)s, %(buyer)s, 'UNPAID', %(total)s,
        jsonb_build_object('name', %(name)s::text, 'phone', %(phone)s::text, 'street', %(street)s::text,
                           'city', %(city)s::text), %(now)s)

-- name: new_line
INSERT INTO order_lines (order_id, line_no, product_id, title, quantity, price)
VALUES (%(order)s, %(line)s, %(product_id)s, %(title)s, %(quantity)s, %(price)s)

-- name: order
SELECT order_id::text, status, total_amount::text, create_time,
       (SELECT json_agg(json_build_object('product_id', product_id::text, 'title', title,
                                          'quantity', quantity, 'price', price::text) ORDER BY line_no)
        FROM order_lines WHERE order_lines.order_id = orders.order_id) AS items,
       (SELECT status FROM charges WHERE charges.order_id = orders.order_id) AS payment_status,
       %(operator)s AS processed_by, format('/api/shops/%%s/orders/%%s/invoice', shop_id, order_id) AS invoice_url
FROM orders WHERE order_id = %(order)s AND shop_id = %(shop)s AND buyer_id = %(buyer)s

-- name: invoice
SELECT order_id, name AS shop, total_amount::bigint AS amount_idr, paid_time IS NOT NULL AS paid,
       %(operator)s AS processed_by
FROM orders JOIN shops USING (shop_id) WHERE shop_id = %(shop)s AND order_id = %(order)s

-- name: lock_order
SELECT order_id, status = 'UNPAID' AS payable, total_amount::bigint AS amount FROM orders
WHERE order_id = %(order)s AND shop_id = %(shop)s AND buyer_id = %(buyer)s FOR UPDATE

-- name: charge
SELECT charge_id, order_id, payee, method, method AS pays_by, amount::bigint AS amount, provider_order_id AS reference,
       transaction_id, va_number, qr_string, charges.status, shop_id, shop_id AS shop,
       charges.status IN ('settlement', 'partial_refund', 'refund') AS paid,
       (SELECT coalesce(sum(amount), 0)::bigint FROM refunds
        WHERE refunds.order_id = charges.order_id AND status <> 'refused') AS promised
FROM charges JOIN orders USING (order_id) WHERE order_id = %(order)s

-- name: new_charge
INSERT INTO charges (order_id, payee, method, amount, provider_order_id, status, create_time)
VALUES (%(order)s, 'social', %(method)s, %(amount)s, %(reference)s, 'pending', %(now)s)

-- name: claim_payment
INSERT INTO idempotency (shop_id, key, kind, order_id, charge_id, create_time)
VALUES (%(shop)s, %(key)s, 'payment', %(order)s, %(charge)s, %(now)s) ON CONFLICT DO NOTHING

-- name: known_payment
SELECT order_id FROM idempotency WHERE shop_id = %(shop)s AND key = %(key)s AND kind = 'payment'

-- name: store_answer
UPDATE charges SET transaction_id = %(transaction_id)s, va_number = %(va_number)s, qr_string = %(qr_string)s
WHERE charge_id = %(charge_id)s

-- name: charge_of_notice
SELECT charge_id, order_id, shop_id AS shop, payee, amount::bigint AS amount, provider_order_id AS reference
FROM charges JOIN orders USING (order_id) WHERE provider_order_id = %(reference)s AND shop_id = %(shop)s

-- name: lock_sale
SELECT order_id FROM orders WHERE order_id = %(order_id)s FOR UPDATE

-- name: settle
UPDATE charges SET status = 'settlement', settle_time = %(now)s
WHERE charge_id = %(charge_id)s AND status = 'pending' RETURNING charge_id

-- name: mark_paid
UPDATE orders SET status = 'AWAITING_SHIPMENT', paid_time = %(now)s
WHERE order_id = %(order_id)s AND status = 'UNPAID'

-- name: book
INSERT INTO ledger (order_id, shop_id, event, account, debit, credit, create_time)
VALUES (%(order_id)s, %(shop)s, 'SETTLEMENT', 'CLEARING', %(amount)s, 0, %(now)s),
       (%(order_id)s, %(shop)s, 'SETTLEMENT', 'SELLER_PAYABLE', 0, %(amount)s - %(fee)s, %(now)s),
       (%(order_id)s, %(shop)s, 'SETTLEMENT', 'PLATFORM_FEE', 0, %(fee)s, %(now)s)

-- name: give_up
WITH ended AS (
    UPDATE charges SET status = CASE WHEN %(expired)s THEN 'expire' ELSE 'cancel' END
    WHERE charge_id = %(charge_id)s AND status = 'pending' RETURNING order_id
), cancelled AS (
    UPDATE orders SET status = 'CANCELLED' FROM ended
    WHERE orders.order_id = ended.order_id AND status = 'UNPAID' RETURNING orders.order_id
)
UPDATE stock SET on_hand = on_hand + quantity FROM order_lines JOIN cancelled USING (order_id)
WHERE stock.product_id = order_lines.product_id

-- name: new_refund
-- What the provider calls it follows from its id, so a retried attempt is the same attempt.
WITH new AS (
    INSERT INTO refunds (refund_id, order_id, refund_key, amount, reason, status, create_time)
    SELECT id, %(order)s, 'REFUND-' || id, %(amount)s, %(reason)s, 'pending', %(now)s
    FROM nextval('refunds_refund_id_seq') AS id RETURNING refund_id
)
INSERT INTO idempotency (shop_id, key, kind, order_id, refund_id, create_time)
SELECT %(shop)s, %(key)s, 'refund', %(order)s, refund_id, %(now)s FROM new

-- name: known_refund
SELECT refund_id, refunds.order_id, refund_key, amount::bigint AS amount, reason, status, status = 'pending' AS pending
FROM idempotency JOIN refunds USING (refund_id) WHERE shop_id = %(shop)s AND key = %(key)s AND kind = 'refund'

-- name: refuse_refund
UPDATE refunds SET status = 'refused' WHERE refund_id = %(refund_id)s AND status = 'pending'

-- name: given_back
SELECT coalesce(sum(amount), 0)::bigint AS given_back FROM refunds
WHERE order_id = %(order_id)s AND status = 'settled'

-- name: settle_refund
INSERT INTO refunds (order_id, refund_key, amount, reason, status, create_time)
VALUES (%(order_id)s, %(refund_key)s, %(amount)s, %(reason)s, 'settled', %(now)s)
ON CONFLICT (order_id, refund_key) DO UPDATE SET status = 'settled' WHERE refunds.status <> 'settled'
RETURNING refund_id

-- name: book_refund
INSERT INTO ledger (order_id, shop_id, event, refund_id, account, debit, credit, create_time)
SELECT %(order_id)s, %(shop)s, 'REFUND', %(refund_id)s, account, debit, credit, %(now)s
FROM (VALUES ('CLEARING', 0, %(amount)s), ('SELLER_PAYABLE', %(amount)s - %(fee)s, 0), ('PLATFORM_FEE', %(fee)s, 0))
     AS entry (account, debit, credit)
WHERE debit + credit > 0

-- name: mark_refunded
UPDATE charges SET status = CASE WHEN %(whole)s THEN 'refund' ELSE 'partial_refund' END
WHERE charge_id = %(charge_id)s

-- name: orders_of_buyer
SELECT order_id::text, shop_id::text, status, total_amount::text FROM orders
WHERE buyer_id = %(buyer)s ORDER BY create_time DESC, order_id DESC LIMIT %(limit)s

-- name: profile
SELECT buyer_id::text, name, phone, email, city FROM buyers WHERE buyer_id = %(buyer)s

-- name: change_profile
UPDATE buyers SET name = %(name)s, phone = %(phone)s, email = %(email)s, city = %(city)s
WHERE buyer_id = %(buyer)s RETURNING buyer_id::text, name, phone, email, city
