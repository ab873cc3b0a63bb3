-- top: the users, or keys, with most operations in the last days that are loaded.
-- grain: id; null is a group of its own
-- inputs: usage_1d
-- parameters: by (user_id or api_key_id), n (how many), days (UTC days, the last one included)
WITH counted AS (
  SELECT
    CASE $by WHEN 'user_id' THEN usage_1d.user_id ELSE usage_1d.api_key_id END AS id,
    CAST(SUM(usage_1d.num_conversations_created) AS BIGINT) AS num_conversations_created,
    CAST(SUM(usage_1d.num_items_added) AS BIGINT) AS num_items_added,
    CAST(SUM(usage_1d.num_operations) AS BIGINT) AS num_operations
  FROM usage_1d
  CROSS JOIN (SELECT MAX(end_time) AS last_time FROM usage_1d) AS loaded
  WHERE epoch(usage_1d.start_time) >= epoch(loaded.last_time) - 86400 * $days
  GROUP BY 1
),

ranked AS (
  SELECT
    ROW_NUMBER() OVER (ORDER BY num_operations DESC NULLS LAST, id NULLS FIRST) AS place,
    id,
    num_conversations_created,
    num_items_added,
    num_operations,
    SUM(num_operations) OVER () AS all_operations
  FROM counted
)

SELECT
  place,
  id,
  num_conversations_created,
  num_items_added,
  num_operations,
  CASE
    WHEN all_operations > 0 THEN ROUND(1e2 * num_operations / all_operations, 1)
  END AS percent_of_operations
FROM ranked
WHERE place <= $n
ORDER BY place NULLS FIRST
