-- How far a stream has come, and what it remembers of its reading side. Parameter: direction
SELECT slot, system_id, timeline, publication::bigint AS publication, state, position::text, stopped,
       committed_at::text, applied_at::text, proven_at::text,
       extract(epoch FROM applied_at - committed_at)::float8 * 1000 AS delay_ms,
       (SELECT count(*) FROM alih.stray s WHERE s.direction = stream.direction) AS stray_writes
  FROM alih.stream WHERE direction = %(direction)s
