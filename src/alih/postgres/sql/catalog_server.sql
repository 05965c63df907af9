-- The server and the database we are connected to.
SELECT current_setting('server_version_num')::integer AS server_version,
       (SELECT system_identifier FROM pg_control_system())::text AS system_identifier,
       current_database()::text AS database
