-- share: what part of each bucket's operations belongs to each user, or to each key.
-- grain: bucket x id; null is a group of its own
-- inputs: usage (bucket x user x key)
-- parameters: by (user_id or api_key_id)
WITH counted AS (
  SELECT
    start_time,
    end_time,
    CASE $by WHEN 'user_id' THEN user_id ELSE api_key_id END AS id,
    CAST(SUM(num_conversations_created) AS BIGINT) AS num_conversations_created,
    CAST(SUM(num_items_added) AS BIGINT) AS num_items_added,
    CAST(SUM(num_operations) AS BIGINT) AS num_operations
  FROM usage
  GROUP BY 1, 2, 3
)

SELECT
  start_time,
  end_time,
  id,
  num_conversations_created,
  num_items_added,
  num_operations,
  CASE
    WHEN SUM(num_operations) OVER (PARTITION BY start_time) > 0
      THEN ROUND(1e2 * num_operations / SUM(num_operations) OVER (PARTITION BY start_time), 1)
  END AS percent_of_operations
FROM counted
ORDER BY start_time NULLS FIRST, num_operations DESC NULLS LAST, id NULLS FIRST
