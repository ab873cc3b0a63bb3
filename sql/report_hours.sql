-- report_hours: usage of a report's two periods by hour, without its users, of whom there are many.
-- grain: local hour (of the week of a bar) x paired x api_key_id; null is a group of its own
-- inputs: report_rows (what the query of that name gives)
-- A measure that no row reports stays NULL: unknown is not zero.
SELECT
  period,
  paired,
  unit,
  weekday,
  hour,
  api_key_id,
  CAST(SUM(conversations) AS BIGINT) AS conversations,
  CAST(SUM(items) AS BIGINT) AS items,
  CAST(SUM(operations) AS BIGINT) AS operations
FROM report_rows
GROUP BY 1, 2, 3, 4, 5, 6
