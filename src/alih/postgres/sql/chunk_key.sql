-- How a table may be cut into ranges: its size with all partitions, and the columns of the unique index that is its key,
-- in index order, each with whether alih compares its values as this server does. Text is compared byte by byte, so only
-- under a collation that does the same (those of the builtin provider do), in a database whose encoding is alih's own.
-- Parameters: schema, name, key (text[], in any order)
WITH t AS (SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
            WHERE n.nspname = %(schema)s AND c.relname = %(name)s),
byte_order AS (SELECT l.oid FROM pg_collation l
                WHERE l.collprovider = 'b' OR l.collprovider = 'c' AND l.collcollate IN ('C', 'POSIX')
                UNION ALL
               SELECT 100 FROM pg_database d -- the database's default
                WHERE d.datname = current_database()
                  AND (d.datlocprovider = 'b' OR d.datlocprovider = 'c' AND d.datcollate IN ('C', 'POSIX')))
SELECT coalesce((SELECT sum(pg_table_size(p.relid)) FROM pg_partition_tree(t.oid) p WHERE p.isleaf),
                pg_table_size(t.oid))::bigint AS size,
       k.names, k.orderable
  FROM t
  LEFT JOIN LATERAL (
       SELECT array_agg(a.attname::text ORDER BY u.position) AS names,
              array_agg(a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype, 'uuid'::regtype)
                        OR a.atttypid IN ('text'::regtype, 'varchar'::regtype) AND getdatabaseencoding() = 'UTF8'
                           AND a.attcollation IN (SELECT oid FROM byte_order)
                        ORDER BY u.position) AS orderable
         FROM pg_index i, unnest(i.indkey::smallint[]) WITH ORDINALITY AS u (attnum, position), pg_attribute a
        WHERE i.indrelid = t.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
          AND u.position <= i.indnkeyatts AND a.attrelid = i.indrelid AND a.attnum = u.attnum
        GROUP BY i.indexrelid, i.indisprimary
       HAVING array_agg(a.attname::text ORDER BY a.attname::text)
              = ARRAY(SELECT c FROM unnest(%(key)s::text[]) c ORDER BY c)
        ORDER BY i.indisprimary DESC, i.indexrelid LIMIT 1) k ON true
