-- pair_totals: what usage reports of each user and key in all, and what was observed of them.
-- grain: user_id x api_key_id; null is a group of its own
-- inputs: usage_1d, observed_1d (each of all days that are there)
SELECT
  user_id,
  api_key_id,
  CAST(COALESCE(SUM(conversations), 0) AS BIGINT) AS conversations,
  CAST(COALESCE(SUM(items), 0) AS BIGINT) AS items,
  CAST(COALESCE(SUM(operations), 0) AS BIGINT) AS operations,
  CAST(COALESCE(SUM(seen_conversations), 0) AS BIGINT) AS seen_conversations,
  CAST(COALESCE(SUM(seen_items), 0) AS BIGINT) AS seen_items
FROM (
  SELECT
    user_id,
    api_key_id,
    num_conversations_created AS conversations,
    num_items_added AS items,
    num_operations AS operations,
    0 AS seen_conversations,
    0 AS seen_items
  FROM usage_1d
  UNION ALL
  SELECT user_id, api_key_id, 0, 0, 0, num_conversations_created, num_items_added
  FROM observed_1d
) AS both_sides
GROUP BY user_id, api_key_id
ORDER BY user_id NULLS FIRST, api_key_id NULLS FIRST
