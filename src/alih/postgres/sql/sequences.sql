-- The sequences that fill integer columns by default: their own (serial, identity), or one that the default names.
-- limit: the greatest number that both the column and the sequence can hold.
-- Parameters: schemas, tables, columns (text[], paired)
SELECT t.schema, t."table", t."column", format('%%I.%%I', n.nspname, c.relname) AS name,
       q.seqincrement AS step, q.seqcycle AS cycles, q.seqstart - q.seqincrement AS before_first,
       least(q.seqmax, CASE a.atttypid WHEN 'smallint'::regtype THEN 32767 WHEN 'integer'::regtype THEN 2147483647
                       ELSE 9223372036854775807 END) AS "limit",
       has_sequence_privilege(c.oid, 'SELECT') AS may_read,
       has_sequence_privilege(c.oid, 'UPDATE') AS may_set
  FROM unnest(%(schemas)s::text[], %(tables)s::text[], %(columns)s::text[]) AS t (schema, "table", "column")
  JOIN pg_attribute a ON a.attrelid = to_regclass(format('%%I.%%I', t.schema, t."table")) AND a.attname = t."column"
   AND a.atttypid = ANY ('{smallint,integer,bigint}'::regtype[])
  JOIN LATERAL (
       SELECT d.objid AS id FROM pg_depend d
        WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
          AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum
       UNION
       SELECT d.refobjid FROM pg_attrdef f
         JOIN pg_depend d ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid AND d.refclassid = 'pg_class'::regclass
        WHERE f.adrelid = a.attrelid AND f.adnum = a.attnum
       ) s ON true
  JOIN pg_sequence q ON q.seqrelid = s.id
  JOIN pg_class c ON c.oid = s.id
  JOIN pg_namespace n ON n.oid = c.relnamespace
 ORDER BY 1, 2, 3, 4
