-- Transactions that have been open for longer than a minute: a slot waits for those that have written.
SELECT pid, extract(epoch FROM now() - xact_start)::integer AS seconds
  FROM pg_stat_activity
 WHERE datname = current_database()
   AND pid <> pg_backend_pid()
   AND backend_xid IS NOT NULL
   AND now() - xact_start > interval '1 minute'
 ORDER BY xact_start
