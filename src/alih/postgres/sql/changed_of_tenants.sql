-- %(direction)s, %(tenants)s: the tenants whose changed keys are asked for
SELECT DISTINCT ON (c.entity, k.written)
    c.entity,
    CASE WHEN c.widths[1] = 1 THEN ARRAY[k.written] ELSE k.written::text[] END,
    CASE WHEN c.widths[2] = 1 THEN ARRAY[k.read] ELSE k.read::text[] END
FROM alih.changed c, unnest(c.written, coalesce(c.read, c.written)) WITH ORDINALITY k(written, read, place)
WHERE c.direction = %(direction)s AND c.tenant = ANY(%(tenants)s::text[])
ORDER BY c.entity, k.written, c.position DESC, k.place DESC
