-- What a publication offers: a row for each column of each of its tables. Parameters: publication
SELECT p.schemaname::text AS schema, p.tablename::text AS "table", a.name::text AS "column"
  FROM pg_publication_tables p, unnest(p.attnames) AS a (name)
 WHERE p.pubname = %(publication)s
