-- Tables of the given schemas. Parameters: schemas (text[])
SELECT n.nspname AS schema,
       c.relname AS name,
       c.relkind::text AS kind,
       c.relreplident::text AS replica_identity,
       pg_get_userbyid(c.relowner) AS owner,
       greatest(c.reltuples, 0)::bigint AS row_estimate,
       c.relrowsecurity AS row_security,
       c.relispartition AS partition,
       NOT c.relispartition AND c.relkind <> 'p'
           AND EXISTS (SELECT FROM pg_inherits i WHERE c.oid IN (i.inhrelid, i.inhparent)) AS inherits,
       -- A deleted row is named by the identity of the partition that held it; rows of another server are not in the log.
       ARRAY(SELECT p.oid::regclass::text
               FROM pg_partition_tree(c.oid) t
               JOIN pg_class p ON p.oid = t.relid
              WHERE c.relkind = 'p' AND t.isleaf
                AND (p.relkind = 'f' OR p.relreplident <> c.relreplident)
              ORDER BY 1) AS odd_partitions
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = ANY (%(schemas)s)
   AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
 ORDER BY n.nspname, c.relname
