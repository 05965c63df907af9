-- Every order that stays changes, a thousand a transaction, all over the table.
DO $$
BEGIN
    FOR part IN 1 .. {rows} / 1000 LOOP
        UPDATE orders SET status = 'UPDATED ' || {round}, total_amount = total_amount + 1
        FROM generate_series(part, {rows}, {rows} / 1000) n WHERE order_id = n;
        COMMIT;
    END LOOP;
END $$
