-- By turns an order comes in and another changes, each in a transaction of its own.
DO $$
BEGIN
    FOR n IN 1 .. {rows} / 2 LOOP
        INSERT INTO orders VALUES
            (1000000000::bigint + {round} * {rows} + n, 1000000000 + n % 5000, 2000000000 + n, 'UNPAID', n, NULL, 1690000000 + n);
        COMMIT;
        UPDATE orders SET status = 'PAID ' || {round} WHERE order_id = 1 + n * 7919::bigint % {rows};
        COMMIT;
    END LOOP;
END $$
