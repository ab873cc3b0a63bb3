-- usage_1m: usage by minute, user and key.
-- grain: 1m bucket x user_id x api_key_id; times are UTC, null is a group of its own
-- inputs: raw_usage
-- Several reported rows for one user and key in a bucket (other dimensions) are summed; a measure
-- that no row reports stays NULL: unknown is not zero.
SELECT
  start_time,
  end_time,
  user_id,
  api_key_id,
  CAST(SUM(num_conversations_created) AS BIGINT) AS num_conversations_created,
  CAST(SUM(num_items_added) AS BIGINT) AS num_items_added,
  CAST(SUM(num_operations) AS BIGINT) AS num_operations
FROM raw_usage
GROUP BY start_time, end_time, user_id, api_key_id
ORDER BY start_time, user_id NULLS FIRST, api_key_id NULLS FIRST
