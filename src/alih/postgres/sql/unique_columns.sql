-- The columns of a unique index by its name; NULL among them for an expression.
-- Parameters: schema, name.
SELECT coalesce(array_agg(a.attname::text ORDER BY k.place), '{}')
FROM pg_index i
JOIN pg_class c ON c.oid = i.indexrelid
CROSS JOIN LATERAL unnest(i.indkey::smallint[]) WITH ORDINALITY AS k(number, place)
LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number AND a.attnum > 0
WHERE c.relnamespace::regnamespace::text = quote_ident(%(schema)s) AND c.relname = %(name)s AND k.place <= i.indnkeyatts
