-- check_grain: rows of a table that share their bucket and group with another.
-- grain: bucket x group, only where it is not unique; no row is a pass
-- inputs: checked (start_time and the columns of all groups, NULL where a table lacks one)
SELECT
  start_time,
  endpoint,
  user_id,
  api_key_id,
  model,
  measure,
  COUNT(*) AS times
FROM checked
GROUP BY start_time, endpoint, user_id, api_key_id, model, measure
HAVING COUNT(*) > 1
ORDER BY times DESC, start_time
LIMIT 20
