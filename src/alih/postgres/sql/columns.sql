-- The columns of these tables, in table order. Parameters: schemas, names (text[], paired)
SELECT n.nspname::text AS schema, c.relname::text AS name, array_agg(a.attname::text ORDER BY a.attnum) AS columns,
       pg_current_snapshot()::text AS seen
  FROM unnest(%(schemas)s::text[], %(names)s::text[]) AS t (schema, name)
  JOIN pg_namespace n ON n.nspname = t.schema
  JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.name
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
 GROUP BY 1, 2
