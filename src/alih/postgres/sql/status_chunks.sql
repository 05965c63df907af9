-- How far the copy of each entity is; of the rows, those of chunks that are done. Parameter: direction
SELECT entity,
       CASE WHEN bool_and(state = 'done') THEN 'done'
            WHEN bool_and(state = 'not started') THEN 'not started'
            ELSE 'spooling' END AS state,
       count(*) AS chunks,
       count(*) FILTER (WHERE state = 'done') AS done,
       coalesce(sum(greatest(attempt - 1, 0)), 0)::bigint AS repeated,
       coalesce(sum(row_count), 0)::bigint AS row_count
  FROM alih.chunk
 WHERE direction = %(direction)s GROUP BY entity ORDER BY entity
