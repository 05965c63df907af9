-- What the role is to a table. Parameters: schema, name
SELECT has_schema_privilege(c.relnamespace, 'USAGE') AS may_enter,
       has_table_privilege(c.oid, 'DELETE') AS may_delete,
       row_security_active(c.oid) AS rows_hidden,
       pg_has_role(c.relowner, 'USAGE') AS owned,
       pg_get_userbyid(c.relowner)::text AS owner
  FROM pg_class c
 WHERE c.oid = to_regclass(format('%%I.%%I', %(schema)s::text, %(name)s::text))
