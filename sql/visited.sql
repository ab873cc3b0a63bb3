-- visited: whose listings were read since their usage of a day came about.
-- grain: day x user_id x api_key_id; times are UTC; null is a user of its own, a null key is nobody's
-- inputs: usage_1d (of the days), visits (start_time, user_id, api_key_id and the three measures, as
--   usage of the day said when the listing was read last), observed_1d (of the days)
-- Of whom records are landed on a day without usage, the listing was read to land them.
SELECT start_time, user_id, api_key_id
FROM (
  SELECT
    start_time,
    user_id,
    api_key_id,
    MAX(reported) AS reported,
    MAX(visited) AS visited,
    SUM(conversations) AS conversations,
    SUM(items) AS items,
    SUM(operations) AS operations
  FROM (
    SELECT
      start_time,
      user_id,
      api_key_id,
      1 AS reported,
      0 AS visited,
      COALESCE(num_conversations_created, 0) AS conversations,
      COALESCE(num_items_added, 0) AS items,
      COALESCE(num_operations, 0) AS operations
    FROM usage_1d
    UNION ALL
    SELECT
      start_time,
      user_id,
      api_key_id,
      0,
      1,
      -num_conversations_created,
      -num_items_added,
      -num_operations
    FROM visits
    UNION ALL
    SELECT start_time, user_id, api_key_id, 0, 0, 0, 0, 0
    FROM observed_1d
  ) AS sides
  WHERE api_key_id IS NOT NULL
  GROUP BY start_time, user_id, api_key_id
) AS pairs
WHERE
  (reported = 0 AND visited = 0)
  OR (conversations = 0 AND items = 0 AND operations = 0 AND visited = 1)
ORDER BY start_time, user_id NULLS FIRST, api_key_id NULLS FIRST
