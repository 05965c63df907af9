-- How much of the reading side's log the stream has not confirmed. Parameter: slot
SELECT pg_wal_lsn_diff(pg_current_wal_flush_lsn(), confirmed_flush_lsn)::bigint AS lag_bytes, active AS followed
  FROM pg_replication_slots WHERE slot_name = %(slot)s
