-- report_totals: what a period comes to.
-- grain: one row
-- inputs: hours (what report_hours gives)
-- parameters: period, paired_only (boolean: only days that are compared)
SELECT
  CAST(SUM(conversations) AS BIGINT) AS conversations,
  CAST(SUM(items) AS BIGINT) AS items,
  CAST(SUM(operations) AS BIGINT) AS operations,
  COUNT(*) AS num_rows,
  COUNT(DISTINCT user_id) AS users,
  COUNT(DISTINCT api_key_id) AS keys
FROM hours
WHERE period = $period AND (paired OR NOT $paired_only)
