-- reconciliation_worst: the differences that ask for a look, the worst first.
-- grain: day x user_id x api_key_id x measure that neither matches nor is out of reach
-- inputs: reconciliation (of the days)
-- parameters: at_most (rows)
SELECT day, user_id, api_key_id, measure, reported, observed, difference, class
FROM reconciliation
WHERE class <> 'match' AND class <> 'not derivable'
ORDER BY
  CASE WHEN class = 'unexplained' THEN 0 ELSE 1 END,
  CASE WHEN difference < 0 THEN -difference ELSE difference END DESC,
  day,
  user_id NULLS FIRST,
  api_key_id NULLS FIRST,
  measure
LIMIT $at_most
