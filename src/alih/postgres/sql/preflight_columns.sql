-- Which of the wanted columns the role may not use so. Parameters: schema, name, columns (text[]), privilege
SELECT a.attname::text AS name
  FROM pg_attribute a
 WHERE a.attrelid = to_regclass(format('%%I.%%I', %(schema)s::text, %(name)s::text))
   AND a.attname = ANY (%(columns)s)
   AND NOT has_column_privilege(a.attrelid, a.attnum, %(privilege)s)
 ORDER BY a.attnum
