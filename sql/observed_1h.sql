-- observed_1h: what conversations and items come to, by hour, user and key.
-- grain: 1h bucket x user_id x api_key_id; times are UTC, null is a group of its own
-- inputs: observed_1m
-- Buckets are numbered by integer arithmetic on epoch seconds: exact, and no session time zone
-- has a say. On Spark the session time zone must be UTC (from_unixtime goes through text).
SELECT
  to_timestamp(bucket * 3600) AS start_time,
  to_timestamp(bucket * 3600 + 3600) AS end_time,
  user_id,
  api_key_id,
  num_conversations_created,
  num_items_added,
  num_operations
FROM (
  SELECT
    CAST(epoch(start_time) AS BIGINT) // 3600 AS bucket,
    user_id,
    api_key_id,
    CAST(SUM(num_conversations_created) AS BIGINT) AS num_conversations_created,
    CAST(SUM(num_items_added) AS BIGINT) AS num_items_added,
    CAST(SUM(num_operations) AS BIGINT) AS num_operations
  FROM observed_1m
  GROUP BY 1, user_id, api_key_id
) AS buckets
ORDER BY bucket, user_id NULLS FIRST, api_key_id NULLS FIRST
