-- %(first)s and %(last)s: the first and the last order's number
INSERT INTO orders
SELECT
    'INV/2024/' || n,
    1000000000 + n %% 5000,
    2000000000 + n * 7919 %% 400000,
    (ARRAY['UNPAID', 'AWAITING_SHIPMENT', 'IN_TRANSIT', 'COMPLETED', 'CANCELLED'])[1 + n %% 5],
    (15000 + n * 37 %% 900000)::numeric(18,2),
    CASE WHEN n %% 4 = 0 THEN 'tolong dibungkus rapi, terima kasih ' || n END,
    1690000000 + n * 11 %% 30000000
FROM generate_series(%(first)s::bigint, %(last)s::bigint) n
