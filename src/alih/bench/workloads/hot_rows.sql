-- Twenty rows change all the time, ten of them in each transaction.
DO $$
BEGIN
    FOR n IN 1 .. current_setting('bench.rows')::int / 10 LOOP
        FOR place IN 1 .. 10 LOOP
            UPDATE orders SET total_amount = total_amount + 1 WHERE order_id = 1 + (n + 2 * place) % 20;
        END LOOP;
        COMMIT;
    END LOOP;
END $$
