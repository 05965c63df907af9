-- Foreign keys of the tables of the given schemas. Parameters: schemas (text[])
SELECT n.nspname AS schema,
       c.relname AS "table",
       o.conname AS name,
       ARRAY(SELECT a.attname::text
               FROM unnest(o.conkey) WITH ORDINALITY AS k (attnum, position)
               JOIN pg_attribute a ON a.attrelid = o.conrelid AND a.attnum = k.attnum
              ORDER BY k.position) AS columns,
       fn.nspname AS references_schema,
       f.relname AS references_table,
       ARRAY(SELECT a.attname::text
               FROM unnest(o.confkey) WITH ORDINALITY AS k (attnum, position)
               JOIN pg_attribute a ON a.attrelid = o.confrelid AND a.attnum = k.attnum
              ORDER BY k.position) AS referenced
  FROM pg_constraint o
  JOIN pg_class c ON c.oid = o.conrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_class f ON f.oid = o.confrelid
  JOIN pg_namespace fn ON fn.oid = f.relnamespace
 WHERE o.contype = 'f'
   AND n.nspname = ANY (%(schemas)s)
 ORDER BY n.nspname, c.relname, o.conname
