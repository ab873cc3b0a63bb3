-- report_members: usage of a report's two periods by user.
-- grain: bar of a chart (period and unit) x user_id; null is a group of its own
-- inputs: report_rows (what the query of that name gives)
-- paired: whether any of it is of a day that is compared; paired_operations are of those days alone.
-- A measure that no row reports stays NULL: unknown is not zero.
SELECT
  period,
  unit,
  user_id,
  CAST(SUM(conversations) AS BIGINT) AS conversations,
  CAST(SUM(items) AS BIGINT) AS items,
  CAST(SUM(operations) AS BIGINT) AS operations,
  COUNT(CASE WHEN paired THEN 1 END) > 0 AS paired,
  CAST(SUM(CASE WHEN paired THEN operations END) AS BIGINT) AS paired_operations
FROM report_rows
GROUP BY 1, 2, 3
