-- rows_by_hour: how many rows of a table lie in each hour of their day.
-- grain: UTC hour, by its number since 1970; hours without rows are left out
-- inputs: moments (start_time)
SELECT
  CAST(FLOOR(epoch(start_time)) AS BIGINT) // 3600 AS hour_number,
  COUNT(*) AS num_rows
FROM moments
GROUP BY 1
ORDER BY hour_number
