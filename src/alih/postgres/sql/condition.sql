-- What the reading side shows of a stream, in one row: its server, its slot with the budget, its publication.
-- retained_bytes: log that the server keeps for the slot. safe_bytes: how much more may be written before the slot is
-- lost; NULL without a limit (max_slot_wal_keep_size), when the disk is the limit. log_bytes_per_s: since the last
-- checkpoint began. lost_in_s: until the slot is lost if nothing more is confirmed and that rate stays.
-- replay_lsn is what the stream says it has done, though not stored: log without rows for it.
-- Parameters: slot, publication
WITH server AS (
    SELECT pg_is_in_recovery() AS standby,
           CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_lsn() END AS written
), rate AS (
    SELECT greatest(pg_wal_lsn_diff(s.written, c.redo_lsn), 0)
               / greatest(extract(epoch FROM clock_timestamp() - c.checkpoint_time), 1) AS bytes_per_s
      FROM server s, pg_control_checkpoint() c
)
SELECT (SELECT system_identifier::text FROM pg_control_system()) AS system_id,
       CASE WHEN standby THEN 0 ELSE ('x' || substr(pg_walfile_name(written), 1, 8))::bit(32)::int END AS timeline,
       standby,
       l.confirmed_flush_lsn::text AS confirmed,
       (SELECT oid::bigint FROM pg_publication WHERE pubname = %(publication)s) AS publication,
       pg_wal_lsn_diff(written, greatest(l.confirmed_flush_lsn, r.replay_lsn))::bigint AS lag_bytes,
       coalesce(l.active, false) AS followed,
       l.wal_status,
       pg_wal_lsn_diff(written, l.restart_lsn)::bigint AS retained_bytes,
       l.safe_wal_size AS safe_bytes,
       bytes_per_s::bigint AS log_bytes_per_s,
       (CASE WHEN l.safe_wal_size < 0 THEN 0 ELSE l.safe_wal_size END / nullif(bytes_per_s, 0))::bigint AS lost_in_s
  FROM server
  JOIN rate ON true
  LEFT JOIN pg_replication_slots l ON l.slot_name = %(slot)s
  LEFT JOIN pg_stat_replication r ON r.pid = l.active_pid
