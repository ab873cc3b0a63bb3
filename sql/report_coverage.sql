-- report_coverage: how much is known of each hour.
-- grain: UTC hour, by its start in Unix seconds; hours of days that were never loaded are left out
-- inputs: coverage
-- parameters: dataset (the table that is asked about)
SELECT
  CAST(FLOOR(epoch(start_time)) AS BIGINT) AS hour_start,
  status,
  CAST(epoch(complete_through) AS BIGINT) AS complete_through
FROM coverage
WHERE dataset = $dataset
ORDER BY hour_start
