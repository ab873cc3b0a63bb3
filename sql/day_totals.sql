-- day_totals: what a table says was used on each UTC day.
-- grain: UTC day; days without usage are left out
-- inputs: counted (a usage table)
SELECT
  CAST(epoch(start_time) AS BIGINT) // 86400 * 86400 AS day_start,
  CAST(COALESCE(SUM(num_conversations_created), 0) AS BIGINT) AS num_conversations_created,
  CAST(COALESCE(SUM(num_items_added), 0) AS BIGINT) AS num_items_added,
  CAST(COALESCE(SUM(num_operations), 0) AS BIGINT) AS num_operations
FROM counted
GROUP BY 1
ORDER BY 1
