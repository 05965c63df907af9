-- The control database: which tenants there are, who owns them, and what has been done about it.
CREATE SCHEMA IF NOT EXISTS alih_control;

-- The owner row of a tenant: the truth from which both databases' owner rows are derived.
CREATE TABLE IF NOT EXISTS alih_control.tenant (
    tenant text PRIMARY KEY,
    cohort text NOT NULL,
    side text NOT NULL CHECK (side IN ('source', 'target')),
    epoch bigint NOT NULL DEFAULT 0,
    phase text NOT NULL DEFAULT 'planned',
    detail jsonb NOT NULL DEFAULT '{}',
    updated_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Every change of phase, before the effect that it announces.
CREATE TABLE IF NOT EXISTS alih_control.journal (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at timestamptz NOT NULL DEFAULT clock_timestamp(),
    tenant text NOT NULL,
    phase text NOT NULL,
    detail jsonb NOT NULL
);

-- How long each held request waited.
CREATE TABLE IF NOT EXISTS alih_control.hold (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text NOT NULL,
    waited_ms double precision NOT NULL,
    at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- What an operator asked for; alih serve answers.
CREATE TABLE IF NOT EXISTS alih_control.command (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind text NOT NULL,
    argument text NOT NULL,
    asked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    answered_at timestamptz,
    exit_code int,
    answer jsonb
);
