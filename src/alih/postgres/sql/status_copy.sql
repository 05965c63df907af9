-- How far the copy is. Bytes are the reading side's, as planned; the rate is that of the last five minutes, or of the time
-- since the first chunk was begun if that is shorter; eta_s is NULL while nothing is done. Parameter: direction
SELECT s.paused,
       count(*) FILTER (WHERE c.state = 'done') AS chunks_done,
       count(*) AS chunks,
       coalesce(sum(c.row_count), 0)::bigint AS rows_done,
       coalesce(sum(c.planned_bytes) FILTER (WHERE c.state = 'done'), 0)::bigint AS bytes_done,
       coalesce(sum(c.planned_bytes), 0)::bigint AS bytes,
       r.bytes_per_s,
       CASE WHEN count(*) FILTER (WHERE c.state <> 'done') = 0 THEN 0
            ELSE round(sum(c.planned_bytes) FILTER (WHERE c.state <> 'done') / nullif(r.bytes_per_s, 0))
       END::bigint AS eta_s
  FROM alih.stream s
  JOIN alih.chunk c USING (direction)
  CROSS JOIN LATERAL (
       SELECT (sum(d.planned_bytes) / extract(epoch FROM now()
                   - greatest(min(d.begun_at), now() - interval '5 minutes')))::bigint AS bytes_per_s
         FROM alih.chunk d
        WHERE d.direction = s.direction AND d.state = 'done' AND d.done_at > now() - interval '5 minutes') r
 WHERE s.direction = %(direction)s
 GROUP BY s.paused, r.bytes_per_s
