-- The worst lag of a physical replica in ms, and whether some replica's numbers are hidden from this role.
SELECT coalesce(max(extract(epoch FROM replay_lag) * 1000), 0)::float8 AS lag_ms,
       coalesce(bool_or(state IS NULL), false) AS hidden
  FROM pg_stat_replication r
 WHERE NOT EXISTS (SELECT FROM pg_replication_slots s WHERE s.active_pid = r.pid AND s.slot_type = 'logical')
