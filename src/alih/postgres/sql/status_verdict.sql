-- The last verification. Parameter: direction
SELECT row_count AS rows, mismatches, undecided, findings, position::text, verified_at::text,
       mismatches + undecided = 0 AS clean
  FROM alih.verdict WHERE direction = %(direction)s
