-- %(keys)s: an array of keys, each an array of text; %(since)s: a place in the log behind which one looks
-- The number of each key that was found, from 1, and what was applied to it last; own: the key on the reading side.
WITH asked AS (
    SELECT i, CASE WHEN array_length(keys, 2) = 1 THEN keys[i][1] ELSE ARRAY(SELECT unnest(keys[i:i]))::text END AS key
    FROM (SELECT %(keys)s::text[] AS keys) a, generate_subscripts(keys, 1) i
)
SELECT DISTINCT ON (asked.i)
    asked.i,
    k.xid,
    c.position::text,
    CASE
        WHEN c.widths[2] = 1 THEN ARRAY[coalesce(k.read, k.written)] ELSE coalesce(k.read, k.written)::text[]
    END AS own
FROM alih.changed c, unnest(c.written, c.read, c.xids) WITH ORDINALITY k(written, read, xid, place), asked
WHERE c.direction = %(direction)s AND c.entity = %(entity)s AND c.position > %(since)s::pg_lsn AND k.written = asked.key
ORDER BY asked.i, c.position DESC, k.place DESC
