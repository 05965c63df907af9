-- Types that are not the server's own, by name, with what they are made of. No parameters.
-- Types without length are asked for with -1, as in catalog_columns. Rows of tables are no types of their own here.
SELECT format_type(t.oid, -1) AS name,
       t.typtype::text AS kind,
       CASE t.typtype
           WHEN 'e' THEN ARRAY(SELECT e.enumlabel::text FROM pg_enum e WHERE e.enumtypid = t.oid ORDER BY e.enumsortorder)
           WHEN 'd' THEN ARRAY[format_type(t.typbasetype, -1), format_type(t.typbasetype, t.typtypmod)]
           WHEN 'c' THEN ARRAY(SELECT format('%%I %%s', a.attname, format_type(a.atttypid, a.atttypmod))
                                 FROM pg_attribute a
                                WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
                                ORDER BY a.attnum)
           WHEN 'r' THEN ARRAY[format_type(r.rngsubtype, -1)]
           WHEN 'b' THEN ARRAY(SELECT x.extname::text
                                 FROM pg_depend d
                                 JOIN pg_extension x ON x.oid = d.refobjid
                                WHERE d.classid = 'pg_type'::regclass AND d.objid = t.oid
                                  AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e')
           ELSE '{}'
       END AS made_of,
       CASE t.typtype
           WHEN 'd' THEN ARRAY[format_type(t.typbasetype, -1)]
           WHEN 'c' THEN ARRAY(SELECT format_type(a.atttypid, -1)
                                 FROM pg_attribute a
                                WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
                                ORDER BY a.attnum)
           WHEN 'r' THEN ARRAY[format_type(r.rngsubtype, -1)]
           WHEN 'm' THEN ARRAY[format_type(m.rngtypid, -1)]
           ELSE '{}'
       END AS parts,
       t.typsend <> 0 AND t.typreceive <> 0 AS "binary"
  FROM pg_type t
  JOIN pg_namespace n ON n.oid = t.typnamespace
  LEFT JOIN pg_class c ON c.oid = t.typrelid
  LEFT JOIN pg_range r ON r.rngtypid = t.oid
  LEFT JOIN pg_range m ON m.rngmultitypid = t.oid
 WHERE n.nspname NOT IN ('pg_catalog', 'pg_toast')
   AND (t.typtype IN ('d', 'e', 'm', 'r')
        OR (t.typtype = 'b' AND t.typelem = 0)
        OR (t.typtype = 'c' AND c.relkind = 'c'))
 ORDER BY name
