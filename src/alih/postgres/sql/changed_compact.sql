-- %(direction)s; what is left is the last change of each key under each tenant, in rows of at most 10000 keys
WITH gone AS (
    DELETE FROM alih.changed WHERE direction = %(direction)s
    RETURNING direction, entity, tenant, position, widths, written, read, xids
), last AS (
    SELECT DISTINCT ON (g.entity, g.tenant, k.written)
        g.direction, g.entity, g.tenant, g.position, g.widths, g.read IS NULL AS same, k.written, k.read, k.xid
    FROM gone g, unnest(g.written, coalesce(g.read, g.written), g.xids) WITH ORDINALITY k(written, read, xid, place)
    ORDER BY g.entity, g.tenant, k.written, g.position DESC, k.place DESC
), numbered AS (
    SELECT *, row_number() OVER (PARTITION BY entity, tenant ORDER BY position) / 10000 AS part FROM last
)
INSERT INTO alih.changed (direction, entity, tenant, position, widths, written, read, xids)
SELECT direction, entity, tenant, max(position), widths, array_agg(written),
    CASE WHEN bool_and(same) THEN NULL ELSE array_agg(read) END, array_agg(xid)
FROM numbered GROUP BY direction, entity, tenant, widths, part
RETURNING cardinality(xids)
