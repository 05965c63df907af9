-- The server's settings and the role's rights that a stream needs, in one row. Parameters: slot (the stream's own)
SELECT session_user::text AS role,
       current_database()::text AS database,
       current_setting('server_version_num')::integer AS version,
       pg_is_in_recovery() AS standby,
       current_setting('wal_level') AS wal_level,
       current_setting('max_replication_slots')::integer - (SELECT count(*) FROM pg_replication_slots WHERE slot_name <> %(slot)s) AS free_slots,
       current_setting('max_wal_senders')::integer - (SELECT count(*) FROM pg_stat_replication)
           + (SELECT count(*) FROM pg_replication_slots WHERE slot_name = %(slot)s AND active) AS free_senders,
       current_setting('max_slot_wal_keep_size') AS slot_wal_limit,
       r.rolsuper AS superuser,
       r.rolreplication OR r.rolsuper AS may_replicate,
       has_database_privilege(current_database(), 'CREATE') AS may_create,
       has_database_privilege(current_database(), 'TEMPORARY') AS may_stage,
       pg_has_role('pg_read_all_stats', 'USAGE') AS sees_activity,
       (SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()) AS prepared,
       EXISTS (SELECT FROM pg_namespace WHERE nspname = 'alih' AND has_schema_privilege(oid, 'CREATE, USAGE')) AS has_schema
  FROM pg_roles r
 WHERE r.rolname = session_user
