-- A change of phase: the tenant's row, the journal and the evidence.
-- tenant, phase, detail: the phase, its word and its data; side, epoch: the owner from here on
-- entry: what the evidence says of it
WITH turned AS (
    UPDATE alih_control.tenant
    SET phase = %(phase)s, detail = %(detail)s, side = %(side)s, epoch = %(epoch)s, updated_at = clock_timestamp()
    WHERE tenant = %(tenant)s
), journaled AS (
    INSERT INTO alih_control.journal (tenant, phase, detail) VALUES (%(tenant)s, %(phase)s, %(detail)s)
)
INSERT INTO alih_control.outbox (entry) VALUES (%(entry)s)
