-- hours_of_day: what a day's chart and totals are made of.
-- grain: UTC hour of one day; hours without usage are left out
-- inputs: usage_1h (one day)
SELECT
  CAST(epoch(start_time) AS BIGINT) % 86400 // 3600 AS hour,
  CAST(SUM(num_conversations_created) AS BIGINT) AS num_conversations_created,
  CAST(SUM(num_items_added) AS BIGINT) AS num_items_added,
  CAST(SUM(num_operations) AS BIGINT) AS num_operations
FROM usage_1h
GROUP BY 1
ORDER BY 1
