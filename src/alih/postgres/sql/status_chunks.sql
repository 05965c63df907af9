-- The chunks and, for those being copied, how many rows have arrived. Parameter: direction
SELECT c.entity, c.state, c.attempt, coalesce(c.row_count, p.tuples_processed, 0) AS row_count
  FROM alih.chunk c
  LEFT JOIN LATERAL (SELECT max(tuples_processed) AS tuples_processed FROM pg_stat_progress_copy p
                      WHERE c.state = 'spooling' AND p.command = 'COPY FROM' AND p.datname = current_database()) p ON true
 WHERE c.direction = %(direction)s ORDER BY c.entity
