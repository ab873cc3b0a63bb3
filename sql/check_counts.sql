-- check_counts: counts of a table that are below zero.
-- grain: row of the table x measure, only where it is below zero; no row is a pass
-- inputs: checked (start_time, user_id, api_key_id, measure, value: a table's counts, one a row)
SELECT
  start_time,
  user_id,
  api_key_id,
  measure,
  value
FROM checked
WHERE value < 0
ORDER BY start_time, measure
LIMIT 20
