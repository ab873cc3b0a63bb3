-- status_endpoints: how much is loaded of each usage endpoint beside that of conversations.
-- grain: endpoint by its name in coverage, those that are loaded
-- inputs: coverage
-- Days are UTC, as numbers since 1970.
SELECT
  dataset,
  CAST(MIN(epoch(start_time)) AS BIGINT) // 86400 AS first_day,
  CAST(MAX(epoch(start_time)) AS BIGINT) // 86400 AS last_day,
  COUNT(DISTINCT CAST(epoch(start_time) AS BIGINT) // 86400) AS num_days,
  COUNT(
    DISTINCT CASE WHEN status = 'disputed' THEN CAST(epoch(start_time) AS BIGINT) // 86400 END
  ) AS num_disputed
FROM coverage
WHERE status <> 'missing' AND (dataset = 'costs_1d' OR dataset LIKE 'meters:%')
GROUP BY dataset
ORDER BY dataset
