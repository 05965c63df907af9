-- What came in in the round of the same number goes, a thousand a transaction, all over the table.
DO $$
BEGIN
    FOR part IN 1 .. current_setting('bench.rows')::int / 1000 LOOP
        DELETE FROM orders USING generate_series((current_setting('bench.round')::int + 1) * current_setting('bench.rows')::int + part, (current_setting('bench.round')::int + 2) * current_setting('bench.rows')::int, current_setting('bench.rows')::int / 1000) n WHERE order_id = n;
        COMMIT;
    END LOOP;
END $$
