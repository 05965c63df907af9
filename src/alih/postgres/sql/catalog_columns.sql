-- Columns of the tables of the given schemas, in table order. Parameters: schemas (text[])
-- Types without length are asked for with -1: NULL would print `character`, which is char(1) when it is read again.
SELECT n.nspname AS schema,
       c.relname AS "table",
       a.attname AS name,
       format_type(a.atttypid, -1) AS type,
       format_type(a.atttypid, a.atttypmod) AS full_type,
       a.attnotnull AS not_null,
       CASE WHEN a.attgenerated = '' THEN pg_get_expr(d.adbin, d.adrelid) END AS "default",
       a.attgenerated <> '' AS generated,
       a.attidentity <> '' AS identity,
       a.attidentity = 'a' AS always,
       coalesce(e.typtype, t.typtype)::text AS kind,
       e.oid IS NOT NULL AS "array"
  FROM pg_attribute a
  JOIN pg_class c ON c.oid = a.attrelid
  JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_type t ON t.oid = a.atttypid
  LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A' AND e.typarray = t.oid
  LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
 WHERE n.nspname = ANY (%(schemas)s)
   AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
   AND a.attnum > 0
   AND NOT a.attisdropped
 ORDER BY n.nspname, c.relname, a.attnum
