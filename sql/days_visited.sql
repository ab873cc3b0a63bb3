-- days_visited: days on which usage of the listings that were read is not what it was when they were
--   read before.
-- grain: UTC day, by its number since 1970
-- inputs: usage_1d (of all days, as it was when the listings were read), visits (as they were), read
--   (user_id, api_key_id; the listings that were read now)
SELECT DISTINCT CAST(epoch(start_time) AS BIGINT) // 86400 AS day_number
FROM (
  SELECT sides.start_time
  FROM (
    SELECT
      start_time,
      user_id,
      api_key_id,
      1 AS rows_of_it,
      COALESCE(num_conversations_created, 0) AS conversations,
      COALESCE(num_items_added, 0) AS items,
      COALESCE(num_operations, 0) AS operations
    FROM usage_1d
    UNION ALL
    SELECT
      start_time,
      user_id,
      api_key_id,
      -1,
      -num_conversations_created,
      -num_items_added,
      -num_operations
    FROM visits
  ) AS sides
  INNER JOIN read
    ON sides.api_key_id = read.api_key_id
    AND sides.user_id IS NOT DISTINCT FROM read.user_id
  GROUP BY sides.start_time, sides.user_id, sides.api_key_id
  HAVING
    SUM(sides.rows_of_it) <> 0
    OR SUM(sides.conversations) <> 0
    OR SUM(sides.items) <> 0
    OR SUM(sides.operations) <> 0
) AS pairs
ORDER BY day_number NULLS FIRST
