-- alih's own tables, the same in the source and in the target database: each is written to in one direction.
-- Everything alih leaves in a database is in this schema, or depends on it (fence triggers), or is a slot or a
-- publication whose name begins with alih_; `alih clean` removes all of it.
CREATE SCHEMA IF NOT EXISTS alih;

-- Which migration lives here. One row: two migrations in one database would share the fence. contract: its text, in the
-- target, for workers that know nothing but two DSNs.
CREATE TABLE IF NOT EXISTS alih.migration (
    name text PRIMARY KEY,
    contract text,
    side text NOT NULL CHECK (side IN ('source', 'target')),
    one boolean NOT NULL DEFAULT true UNIQUE CHECK (one)
);

-- The owner of every tenant's rows, as this database knows it; the fence reads it. Derived from the control row.
CREATE TABLE IF NOT EXISTS alih.owner (
    tenant text PRIMARY KEY,
    side text NOT NULL CHECK (side IN ('source', 'target')),
    epoch bigint NOT NULL
);

-- Rows that exist on both sides under different ids.
CREATE TABLE IF NOT EXISTS alih.link (
    entity text NOT NULL,
    source_id text NOT NULL,
    target_id text NOT NULL,
    PRIMARY KEY (entity, source_id),
    UNIQUE (entity, target_id)
);

-- A stream that writes into this database, and how far it has come: committed with the rows it wrote.
-- system_id, timeline, publication (its oid): what the position belongs to; anything else stops the stream by name.
-- position: everything before it is applied here, and no more than it was ever confirmed.
-- dropped: 32-bit ids of transactions with changes dropped before their chunk began, until they are seen visible
-- (alih.model.chunk). chunk_version grows with each change of a chunk's state. Whoever applies a batch or changes a
-- chunk holds this row: one at a time. paused: no chunk is begun.
CREATE TABLE IF NOT EXISTS alih.stream (
    direction text PRIMARY KEY CHECK (direction IN ('forward', 'reverse')),
    slot text NOT NULL,
    system_id text NOT NULL,
    timeline int NOT NULL,
    publication oid NOT NULL,
    state text NOT NULL DEFAULT 'following'
        CHECK (state IN ('following', 'stopped', 'slot lost', 'failed over', 'publication gone')),
    position pg_lsn NOT NULL,
    ordinal bigint NOT NULL DEFAULT 0,
    dropped bigint[] NOT NULL DEFAULT '{}',
    chunk_version bigint NOT NULL DEFAULT 0,
    paused boolean NOT NULL DEFAULT false,
    committed_at timestamptz,
    applied_at timestamptz,
    proven_at timestamptz,  -- when a canary row last arrived by it
    stopped text
);

-- Columns that the target fills from a sequence, and from which number on which side draws (alih.model.ranges).
-- above: the target draws from target_boundary on, the source below source_boundary; else the other way round.
-- source_sequence is NULL where the source does not draw its numbers from one.
CREATE TABLE IF NOT EXISTS alih.sequence (
    entity text NOT NULL,
    source_table text NOT NULL,
    source_column text NOT NULL,
    source_sequence text,
    target_table text NOT NULL,
    target_column text NOT NULL,
    target_sequence text NOT NULL,
    source_boundary bigint NOT NULL,
    target_boundary bigint NOT NULL,
    above boolean NOT NULL,
    PRIMARY KEY (target_table, target_column)
);

-- Rows that prove that a stream carries rows (alih.postgres.canary). Empty but for the moment of a proof.
CREATE TABLE IF NOT EXISTS alih.canary (
    id uuid PRIMARY KEY,
    sent_at timestamptz NOT NULL
);

-- What is copied at a time: the rows whose columns ordered_by lie in [lower, upper), NULL being open; or the one row whose
-- key is row_key (cells of binary COPY). settled: where the reading side's log ended after the snapshot was taken.
-- A worker holds the session's advisory lock (1634494819, id) while it copies.
CREATE TABLE IF NOT EXISTS alih.chunk (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    direction text NOT NULL REFERENCES alih.stream ON DELETE CASCADE,
    entity text NOT NULL,
    ordered_by text[] NOT NULL DEFAULT '{}',
    lower text[],
    upper text[],
    row_key bytea[],
    state text NOT NULL DEFAULT 'not started' CHECK (state IN ('not started', 'spooling', 'done')),
    attempt int NOT NULL DEFAULT 0,
    snapshot text,
    settled pg_lsn,
    row_count bigint,
    planned_bytes bigint NOT NULL DEFAULT 0,
    begun_at timestamptz,
    done_at timestamptz,
    CHECK ((state = 'done') = (snapshot IS NOT NULL AND settled IS NOT NULL))
);
CREATE INDEX IF NOT EXISTS chunk_by_entity ON alih.chunk (direction, entity);

-- Changes of a chunk's rows that arrived while it was copied: pgoutput's own bytes, in stream order.
CREATE TABLE IF NOT EXISTS alih.spool (
    chunk bigint NOT NULL,
    ordinal bigint GENERATED ALWAYS AS IDENTITY,
    xid bigint NOT NULL,
    change bytea NOT NULL,
    PRIMARY KEY (chunk, ordinal)
);

-- Tenants for which a stream runs otherwise than by default (forward: it applies, reverse: it does not),
-- turned by the owner messages in the log, in log order.
CREATE TABLE IF NOT EXISTS alih.flow (
    direction text NOT NULL REFERENCES alih.stream ON DELETE CASCADE,
    tenant text NOT NULL,
    applies boolean NOT NULL,
    epoch bigint NOT NULL,
    PRIMARY KEY (direction, tenant)
);

-- Keys that changed since they were last verified, with the transaction that the reading side calls the row's xmin.
CREATE TABLE IF NOT EXISTS alih.changed (
    direction text NOT NULL,
    entity text NOT NULL,
    write_key text[] NOT NULL,
    read_key text[] NOT NULL,
    tenant text,
    xid bigint NOT NULL,
    position pg_lsn NOT NULL,
    PRIMARY KEY (direction, entity, write_key)
);
CREATE INDEX IF NOT EXISTS changed_by_tenant ON alih.changed (direction, tenant);

-- How the reading side offered a table to the stream when it was first followed: see sql/offered.sql.
CREATE TABLE IF NOT EXISTS alih.offered (
    direction text NOT NULL REFERENCES alih.stream ON DELETE CASCADE,
    entity text NOT NULL,
    columns text[] NOT NULL,  -- those that cross
    published text,
    identity text NOT NULL,
    partitions bigint[] NOT NULL,
    partition_names text[] NOT NULL,
    PRIMARY KEY (direction, entity)
);

-- Writes seen in the log of a side that does not own the tenant. Keys, never values.
CREATE TABLE IF NOT EXISTS alih.stray (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    direction text NOT NULL,
    entity text NOT NULL,
    tenant text,
    read_key text[] NOT NULL,
    position pg_lsn NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- How often changed keys were forgotten, because they were found equal: a key that nothing is noted for has not changed
-- since the last time.
CREATE TABLE IF NOT EXISTS alih.verified (
    direction text PRIMARY KEY,
    position pg_lsn NOT NULL,
    times bigint NOT NULL DEFAULT 1
);

-- What alih repair did: a row of the writing side made equal to the reading side's, in the transaction that did it.
CREATE TABLE IF NOT EXISTS alih.repair (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    direction text NOT NULL,
    entity text NOT NULL,
    write_key text[] NOT NULL,
    cause text NOT NULL CHECK (cause IN ('missing', 'surplus', 'different')),
    columns text[] NOT NULL,
    hash_before text,
    hash_after text,
    position pg_lsn NOT NULL,
    repaired_by text NOT NULL,
    repaired_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The last verification of each direction.
CREATE TABLE IF NOT EXISTS alih.verdict (
    direction text PRIMARY KEY,
    row_count bigint NOT NULL,
    mismatches bigint NOT NULL,
    undecided bigint NOT NULL,
    findings jsonb NOT NULL,
    position pg_lsn NOT NULL,
    verified_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
