-- Sales seen at the gateway: each call that is one, and which side answered it.
CREATE TABLE IF NOT EXISTS alih_control.seen (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    order_id text NOT NULL,
    tenant text NOT NULL,
    side text CHECK (side IN ('source', 'target')),  -- null: no side has answered
    epoch bigint,  -- under which that side owned the tenant
    at timestamptz NOT NULL,
    status int NOT NULL
);
CREATE INDEX IF NOT EXISTS seen_by_order ON alih_control.seen (order_id);

-- How far the gateway's log has been read; changed in one transaction with the rows read from it.
CREATE TABLE IF NOT EXISTS alih_control.seen_log (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    file bigint NOT NULL DEFAULT 0,  -- its inode: another file is read from its beginning
    place bigint NOT NULL DEFAULT 0
);
INSERT INTO alih_control.seen_log DEFAULT VALUES ON CONFLICT DO NOTHING;
