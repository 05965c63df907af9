-- Every order that stays changes, a thousand a transaction, all over the table.
DO $$
BEGIN
    FOR part IN 1 .. current_setting('bench.rows')::int / 1000 LOOP
        UPDATE orders SET status = 'UPDATED ' || current_setting('bench.round')::int, total_amount = total_amount + 1
        FROM generate_series(part, current_setting('bench.rows')::int, current_setting('bench.rows')::int / 1000) n WHERE order_id = n;
        COMMIT;
    END LOOP;
END $$
