-- Whole, valid, immediate unique indexes on plain columns. Parameters: schemas (text[])
SELECT n.nspname AS schema,
       c.relname AS "table",
       i.indisprimary AS is_primary,
       i.indisreplident AS is_identity,
       ARRAY(SELECT a.attname::text
               FROM unnest(i.indkey::smallint[]) WITH ORDINALITY AS k (attnum, position)
               JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
              WHERE k.position <= i.indnkeyatts
              ORDER BY k.position) AS columns
  FROM pg_index i
  JOIN pg_class c ON c.oid = i.indrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_class x ON x.oid = i.indexrelid
 WHERE n.nspname = ANY (%(schemas)s)
   AND c.relkind IN ('r', 'p')
   AND i.indisunique AND i.indisvalid AND i.indimmediate
   AND i.indpred IS NULL AND i.indexprs IS NULL
 ORDER BY n.nspname, c.relname, x.relname
