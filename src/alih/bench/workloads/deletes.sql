-- What came in in the round of the same number goes, a thousand a transaction, all over the table.
DO $$
BEGIN
    FOR part IN 1 .. {rows} / 1000 LOOP
        DELETE FROM orders USING generate_series(({round} + 1) * {rows} + part, ({round} + 2) * {rows}, {rows} / 1000) n WHERE order_id = n;
        COMMIT;
    END LOOP;
END $$
