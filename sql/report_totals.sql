-- report_totals: what a period comes to.
-- grain: one row
-- inputs: hours (what report_hours gives), members (what report_members gives)
-- parameters: period, paired_only (boolean: only days that are compared)
SELECT
  CAST(SUM(conversations) AS BIGINT) AS conversations,
  CAST(SUM(items) AS BIGINT) AS items,
  CAST(SUM(operations) AS BIGINT) AS operations,
  COUNT(*) AS num_rows,
  (
    SELECT COUNT(DISTINCT user_id)
    FROM members
    WHERE period = $period AND (paired OR NOT $paired_only)
  ) AS users,
  COUNT(DISTINCT api_key_id) AS keys
FROM hours
WHERE period = $period AND (paired OR NOT $paired_only)
