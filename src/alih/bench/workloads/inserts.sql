-- Orders come in, a thousand a transaction.
DO $$
BEGIN
    FOR part IN 0 .. current_setting('bench.rows')::int / 1000 - 1 LOOP
        INSERT INTO orders
        SELECT n, 1000000000 + n % 5000, 2000000000 + n % 400000, 'UNPAID', (15000 + n % 900000)::numeric(18,2),
            CASE WHEN n % 4 = 0 THEN 'tolong dibungkus rapi, terima kasih ' || n END, 1690000000 + n
        FROM generate_series((current_setting('bench.round')::int + 1) * current_setting('bench.rows')::int + part * 1000 + 1, (current_setting('bench.round')::int + 1) * current_setting('bench.rows')::int + part * 1000 + 1000) n;
        COMMIT;
    END LOOP;
END $$
