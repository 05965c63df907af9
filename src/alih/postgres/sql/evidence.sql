-- The evidence: entries come into the outbox with their effect, leave it numbered, and stay as leaves for good.
-- Two alih that install at once would collide on the function.
SELECT pg_advisory_xact_lock(x'616c6965'::bigint);

CREATE TABLE IF NOT EXISTS alih_control.outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    entry text NOT NULL
);

CREATE TABLE IF NOT EXISTS alih_control.leaf (
    number bigint PRIMARY KEY CHECK (number >= 0),
    content bytea NOT NULL,
    hash bytea NOT NULL CHECK (length(hash) = 32)
);

-- What the commitments in a leaf were made of. Apart from the leaf, because it may have to be erased.
CREATE TABLE IF NOT EXISTS alih_control.opening (
    number bigint NOT NULL REFERENCES alih_control.leaf,
    name text NOT NULL,
    salt bytea NOT NULL,
    value bytea NOT NULL,  -- UTF-8; text could not hold every value
    PRIMARY KEY (number, name)
);

CREATE TABLE IF NOT EXISTS alih_control.checkpoint (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    size bigint NOT NULL,
    peaks bytea[] NOT NULL,  -- of the tree at that size: where hashing goes on
    note text NOT NULL
);

CREATE OR REPLACE FUNCTION alih_control.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'evidence in alih_control.% is never changed or deleted', TG_TABLE_NAME
        USING ERRCODE = 'integrity_constraint_violation';
END
$$;

CREATE OR REPLACE TRIGGER kept BEFORE UPDATE OR DELETE OR TRUNCATE ON alih_control.leaf
    FOR EACH STATEMENT EXECUTE FUNCTION alih_control.refuse_change();
CREATE OR REPLACE TRIGGER kept BEFORE UPDATE OR DELETE OR TRUNCATE ON alih_control.checkpoint
    FOR EACH STATEMENT EXECUTE FUNCTION alih_control.refuse_change();
