-- Payment notices: each is kept before it is answered, and stays until its owner has taken it.
CREATE TABLE IF NOT EXISTS alih_control.notice (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text NOT NULL,
    sha256 bytea NOT NULL,              -- of the body's RFC 8785 form: never of an amount
    path text NOT NULL,                 -- where it came in, and where it is delivered
    reference text NOT NULL,
    payee text NOT NULL,                -- whose key has signed it
    body bytea NOT NULL,
    origin text NOT NULL CHECK (origin IN ('notice', 'sweep')),
    received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    repeated integer NOT NULL DEFAULT 0,
    attempts integer NOT NULL DEFAULT 0,
    next_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    delivered_at timestamptz,
    side text,
    given_up_at timestamptz,
    UNIQUE (tenant, sha256)
);
CREATE INDEX IF NOT EXISTS notice_waiting ON alih_control.notice (tenant, reference, id)
    WHERE delivered_at IS NULL AND given_up_at IS NULL;
CREATE INDEX IF NOT EXISTS notice_reference ON alih_control.notice (reference, id);

-- What was refused, counted: a row a minute for each reason at each tenant that alih knows, and one for all others.
CREATE TABLE IF NOT EXISTS alih_control.notice_refusal (
    minute timestamptz NOT NULL DEFAULT date_trunc('minute', clock_timestamp()),
    tenant text NOT NULL,               -- empty for those that alih does not know
    reason text NOT NULL,
    times bigint NOT NULL DEFAULT 1,
    PRIMARY KEY (minute, tenant, reason)
);
