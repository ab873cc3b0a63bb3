-- check_grain: rows of a table that share their bucket, user and key with another.
-- grain: bucket x user_id x api_key_id, only where it is not unique; no row is a pass
-- inputs: checked (a usage table)
SELECT
  start_time,
  user_id,
  api_key_id,
  COUNT(*) AS times
FROM checked
GROUP BY start_time, user_id, api_key_id
HAVING COUNT(*) > 1
ORDER BY times DESC, start_time
LIMIT 20
