-- name: feed
SELECT promo_id::text, creator, caption, clip, likes, shop_id::text, product_id::text, '/p/' || promo_id AS link
FROM promotions WHERE in_feed ORDER BY promotions.promo_id

-- name: promotion
SELECT shop_id, product_id FROM promotions WHERE promo_id = %(promo)s
