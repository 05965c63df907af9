-- By turns an order comes in and another changes, each in a transaction of its own.
DO $$
BEGIN
    FOR n IN 1 .. current_setting('bench.rows')::int / 2 LOOP
        INSERT INTO orders VALUES
            (1000000000::bigint + current_setting('bench.round')::int * current_setting('bench.rows')::int + n, 1000000000 + n % 5000, 2000000000 + n, 'UNPAID', n, NULL, 1690000000 + n);
        COMMIT;
        UPDATE orders SET status = 'PAID ' || current_setting('bench.round')::int WHERE order_id = 1 + n * 7919::bigint % current_setting('bench.rows')::int;
        COMMIT;
    END LOOP;
END $$
