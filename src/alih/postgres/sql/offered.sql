-- How tables are offered to the log, as far as the log itself does not say. Parameters: schemas, names (text[],
-- paired), publications (text[])
-- A column is its number, name and type: one that was dropped and made anew has another number.
-- A publication's entry for a table has a number that it loses when it is taken out. Of a partition: its number, its
-- name, and whether it was there before it became one; what its system columns say of its birth never changes.
SELECT n.nspname::text AS schema,
       c.relname::text AS name,
       c.oid::bigint AS number,
       ARRAY(SELECT format('%%s %%s %%s', a.attnum, a.attname, a.atttypid)
               FROM pg_attribute a
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
              ORDER BY a.attnum) AS columns,
       (SELECT string_agg(format('%%s %%s %%s %%s', p.oid, r.oid, r.prqual,
                                 concat(p.pubinsert, p.pubupdate, p.pubdelete, p.pubtruncate, p.pubviaroot)),
                          ', ' ORDER BY p.oid)
          FROM pg_publication p
          JOIN pg_publication_rel r ON r.prpubid = p.oid AND r.prrelid = c.oid
         WHERE p.pubname = ANY (%(publications)s)) AS published,
       concat(c.relreplident, ' ', (SELECT i.indkey
                                      FROM pg_index i
                                     WHERE i.indrelid = c.oid
                                       AND CASE c.relreplident WHEN 'd' THEN i.indisprimary ELSE i.indisreplident END
                                     LIMIT 1)) AS identity,
       ARRAY(SELECT t.relid::oid::bigint
               FROM pg_partition_tree(c.oid) t
              WHERE t.level > 0
              ORDER BY t.relid) AS partitions,
       ARRAY(SELECT format('%%I.%%I', pn.nspname, p.relname)
               FROM pg_partition_tree(c.oid) t
               JOIN pg_class p ON p.oid = t.relid
               JOIN pg_namespace pn ON pn.oid = p.relnamespace
              WHERE t.level > 0
              ORDER BY t.relid) AS partition_names,
       ARRAY(SELECT t.relid::oid::bigint
               FROM pg_partition_tree(c.oid) t
               JOIN pg_inherits i ON i.inhrelid = t.relid
               JOIN pg_attribute a ON a.attrelid = t.relid AND a.attnum = -1
              WHERE t.level > 0 AND i.xmin <> a.xmin) AS attached,
       pg_current_snapshot()::text AS seen
  FROM unnest(%(schemas)s::text[], %(names)s::text[]) AS t (schema, name)
  JOIN pg_namespace n ON n.nspname = t.schema
  JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = t.name
