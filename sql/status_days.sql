-- status_days: what coverage says of a table, day by day.
-- grain: UTC day, by its start in Unix seconds
-- inputs: coverage
-- parameters: dataset (the table that is asked about)
SELECT
  CAST(FLOOR(epoch(start_time)) AS BIGINT) // 86400 * 86400 AS day_start,
  COUNT(CASE WHEN status = 'final' THEN 1 END) AS final_hours,
  COUNT(CASE WHEN status = 'provisional' THEN 1 END) AS provisional_hours,
  COUNT(CASE WHEN status = 'disputed' THEN 1 END) AS disputed_hours,
  CAST(SUM("rows") AS BIGINT) AS num_rows,
  CAST(FLOOR(epoch(MAX(fetched_at))) AS BIGINT) AS fetched_at
FROM coverage
WHERE dataset = $dataset
GROUP BY 1
ORDER BY day_start
