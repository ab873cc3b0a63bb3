-- active_pairs: who used the API in a window, and how much.
-- grain: user_id x api_key_id with any measure above zero; null is a group of its own
-- inputs: usage_1m
-- parameters: start, end (epoch seconds, on bucket edges)
SELECT
  user_id,
  api_key_id,
  CAST(COALESCE(SUM(num_conversations_created), 0) AS BIGINT) AS num_conversations_created,
  CAST(COALESCE(SUM(num_items_added), 0) AS BIGINT) AS num_items_added,
  CAST(COALESCE(SUM(num_operations), 0) AS BIGINT) AS num_operations
FROM usage_1m
WHERE start_time >= to_timestamp($start) AND start_time < to_timestamp($end)
GROUP BY user_id, api_key_id
HAVING
  SUM(num_conversations_created) > 0 OR SUM(num_items_added) > 0 OR SUM(num_operations) > 0
ORDER BY user_id NULLS FIRST, api_key_id NULLS FIRST
