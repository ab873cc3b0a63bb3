-- visits: what usage said of each listing that has been read, when it was read last.
-- grain: day x user_id x api_key_id; times are UTC; null is a user of its own
-- inputs: usage_1d (of all days, as it was when the listings were read), visits (as they were), read
--   (user_id, api_key_id; the listings that were read now)
SELECT
  told.start_time,
  told.user_id,
  told.api_key_id,
  told.num_conversations_created,
  told.num_items_added,
  told.num_operations
FROM (
  SELECT
    usage_1d.start_time,
    usage_1d.user_id,
    usage_1d.api_key_id,
    COALESCE(usage_1d.num_conversations_created, 0) AS num_conversations_created,
    COALESCE(usage_1d.num_items_added, 0) AS num_items_added,
    COALESCE(usage_1d.num_operations, 0) AS num_operations
  FROM usage_1d
  INNER JOIN read
    ON usage_1d.api_key_id = read.api_key_id
    AND usage_1d.user_id IS NOT DISTINCT FROM read.user_id
  UNION ALL
  SELECT
    visits.start_time,
    visits.user_id,
    visits.api_key_id,
    visits.num_conversations_created,
    visits.num_items_added,
    visits.num_operations
  FROM visits
  LEFT JOIN read
    ON visits.api_key_id = read.api_key_id
    AND visits.user_id IS NOT DISTINCT FROM read.user_id
  WHERE read.api_key_id IS NULL
) AS told
ORDER BY told.start_time, told.user_id NULLS FIRST, told.api_key_id NULLS FIRST
