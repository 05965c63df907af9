-- What of a table can be made anew elsewhere, as text. Parameters: schema, name
-- A column is its name, full type, default and NOT NULL; defaults that draw from a sequence are left to the caller.
SELECT json_build_object(
    'columns', (
        SELECT coalesce(json_agg(json_build_object(
                   'name', a.attname,
                   'type', format_type(a.atttypid, a.atttypmod),
                   'not_null', a.attnotnull,
                   'default', pg_get_expr(d.adbin, d.adrelid),
                   'generated', a.attgenerated,
                   'identity', a.attidentity,
                   'user_type', t.typnamespace <> 'pg_catalog'::regnamespace
               ) ORDER BY a.attnum), '[]')
          FROM pg_attribute a
          JOIN pg_type t ON t.oid = a.atttypid
          LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
    'constraints', (
        SELECT coalesce(json_agg(json_build_object('name', o.conname, 'kind', o.contype, 'definition', pg_get_constraintdef(o.oid))
                                 ORDER BY o.contype <> 'p', o.conname), '[]')
          FROM pg_constraint o
         WHERE o.conrelid = c.oid AND o.contype IN ('p', 'u', 'c', 'f', 'x')),
    'indexes', (
        SELECT coalesce(json_agg(pg_get_indexdef(i.indexrelid) ORDER BY i.indexrelid), '[]')
          FROM pg_index i
         WHERE i.indrelid = c.oid
           AND NOT EXISTS (SELECT FROM pg_constraint o WHERE o.conindid = i.indexrelid AND o.contype IN ('p', 'u', 'x'))),
    'triggers', (
        SELECT coalesce(json_agg(g.tgname ORDER BY g.tgname), '[]')
          FROM pg_trigger g
         WHERE g.tgrelid = c.oid AND NOT g.tgisinternal AND g.tgname NOT LIKE 'alih\_%%'),
    'row_security', c.relrowsecurity,
    'kind', c.relkind
) AS shape
  FROM pg_class c
 WHERE c.oid = to_regclass(format('%%I.%%I', %(schema)s::text, %(name)s::text))
