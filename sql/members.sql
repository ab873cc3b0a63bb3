-- members: every user, or every key, that something was used by, when and how much.
-- grain: id; null is usage without a user, or without a key
-- inputs: usage_1h
-- parameters: by (user_id or api_key_id)
SELECT
  CASE $by WHEN 'user_id' THEN user_id ELSE api_key_id END AS id,
  MIN(start_time) AS first_seen,
  MAX(end_time) AS last_seen,
  COUNT(DISTINCT CAST(epoch(start_time) AS BIGINT) // 86400) AS active_days,
  CAST(SUM(num_conversations_created) AS BIGINT) AS num_conversations_created,
  CAST(SUM(num_items_added) AS BIGINT) AS num_items_added,
  CAST(SUM(num_operations) AS BIGINT) AS num_operations
FROM usage_1h
GROUP BY 1
ORDER BY id NULLS FIRST
