-- The fence: a side that does not own a tenant refuses its writes. Parameter (as text, not bound): this side's name.
-- Every function is alih's (SECURITY DEFINER), so the shop's roles need no right on alih's tables.
--
-- A writing transaction takes a shared advisory lock per tenant and then reads the owner's row; the fence takes the
-- same lock exclusively and then turns the row. So a fence waits for the transactions that have written the tenant's
-- rows, and a transaction that comes later reads the turned row. Beyond 32 tenants one lock for all takes their place,
-- for the lock table is of fixed size and a nightly job would fill it.
-- In READ COMMITTED each statement sees the latest committed row. Above it the snapshot may be older than the fence:
-- FOR SHARE then fails with 40001 on a row turned since, and so do we where the snapshot has no row at all.
-- The triggers are AFTER ROW: they see the row as every BEFORE trigger of the shop has left it, and COPY stays fast.
-- alih.held lists the tenants that this transaction has been admitted for; a savepoint's rollback undoes the setting
-- together with the locks taken since, so a repeated row costs one comparison.
CREATE OR REPLACE FUNCTION alih.admit(tenant_id text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $fence$
DECLARE
    held text := coalesce(current_setting('alih.held', true), '');
    owning text;
BEGIN
    IF tenant_id IS NULL OR position(E'\x1f' || tenant_id || E'\x1f' IN held) > 0 THEN
        RETURN;
    END IF;
    IF held <> '*' THEN
        IF length(held) - length(replace(held, E'\x1f', '')) > 32 THEN
            PERFORM pg_advisory_xact_lock_shared({class}, 0);
            held := '*';
        ELSE
            PERFORM pg_advisory_xact_lock_shared({class}, hashtext(tenant_id) | 1);
            held := CASE held WHEN '' THEN E'\x1f' ELSE held END || tenant_id || E'\x1f';
        END IF;
    END IF;
    IF current_setting('transaction_isolation') = 'read committed' THEN
        SELECT side INTO owning FROM alih.owner WHERE tenant = tenant_id;
    ELSE
        SELECT side INTO owning FROM alih.owner WHERE tenant = tenant_id FOR SHARE;
    END IF;
    IF owning IS NULL THEN
        RAISE EXCEPTION 'tenant % has no owner here yet', tenant_id
            USING ERRCODE = 'serialization_failure', HINT = 'Retry the transaction.';
    ELSIF owning <> {side} THEN
        RAISE EXCEPTION 'tenant % is not written here: its owner is the %', tenant_id, owning
            USING ERRCODE = 'read_only_sql_transaction', HINT = 'Send the write to the owner''s back end.';
    END IF;
    PERFORM set_config('alih.held', held, true);
END
$fence$;

-- A tenant that is new at the source gets its owner there and then.
CREATE OR REPLACE FUNCTION alih.register(tenant_id text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $register$
    INSERT INTO alih.owner (tenant, side, epoch) VALUES (tenant_id, 'source', 0) ON CONFLICT DO NOTHING
$register$;

-- TRUNCATE touches every tenant: allowed while this side owns them all. A snapshot older than a fence would show
-- that tenant's old owner: FOR SHARE then fails with 40001, as in alih.admit.
CREATE OR REPLACE FUNCTION alih.fence_truncate() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $truncate$
BEGIN
    PERFORM pg_advisory_xact_lock_shared({class}, 0);
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        PERFORM FROM alih.owner FOR SHARE;
    END IF;
    IF EXISTS (SELECT FROM alih.owner WHERE side <> {side}) THEN
        RAISE EXCEPTION 'table %.% holds rows of tenants that are not written here', TG_TABLE_SCHEMA, TG_TABLE_NAME
            USING ERRCODE = 'read_only_sql_transaction', HINT = 'Delete the rows of the tenants owned here instead.';
    END IF;
    RETURN NULL;
END
$truncate$;
