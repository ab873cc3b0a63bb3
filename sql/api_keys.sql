-- api_keys: every key that something was used with, when and how much.
-- grain: api_key_id; null is usage without a key
-- inputs: usage_1h
SELECT
  api_key_id,
  MIN(start_time) AS first_seen,
  MAX(end_time) AS last_seen,
  COUNT(DISTINCT CAST(epoch(start_time) AS BIGINT) // 86400) AS active_days,
  CAST(SUM(num_conversations_created) AS BIGINT) AS num_conversations_created,
  CAST(SUM(num_items_added) AS BIGINT) AS num_items_added,
  CAST(SUM(num_operations) AS BIGINT) AS num_operations
FROM usage_1h
GROUP BY api_key_id
ORDER BY api_key_id NULLS FIRST
