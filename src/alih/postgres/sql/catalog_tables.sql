-- Tables of the given schemas. Parameters: schemas (text[])
SELECT n.nspname AS schema,
       c.relname AS name,
       c.relkind::text AS kind,
       c.relreplident::text AS replica_identity,
       pg_get_userbyid(c.relowner) AS owner,
       greatest(c.reltuples, 0)::bigint AS row_estimate,
       c.relrowsecurity AS row_security,
       c.relispartition OR EXISTS (SELECT FROM pg_inherits i WHERE c.oid IN (i.inhrelid, i.inhparent)) AS inherits
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = ANY (%(schemas)s)
   AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
 ORDER BY n.nspname, c.relname
