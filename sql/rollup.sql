-- rollup: buckets of an hour or a day, by user and key, from narrower ones.
-- grain: bucket x user_id x api_key_id; times are UTC, null is a group of its own
-- inputs: narrower (usage_1m or usage_1h, observed_1m or observed_1h)
-- parameters: seconds (of a bucket: 3600 or 86400)
-- Buckets are numbered by integer arithmetic on epoch seconds: exact, and no session time zone
-- has a say.
SELECT
  to_timestamp(bucket * $seconds) AS start_time,
  to_timestamp(bucket * $seconds + $seconds) AS end_time,
  user_id,
  api_key_id,
  num_conversations_created,
  num_items_added,
  num_operations
FROM (
  SELECT
    CAST(epoch(start_time) AS BIGINT) // $seconds AS bucket,
    user_id,
    api_key_id,
    CAST(SUM(num_conversations_created) AS BIGINT) AS num_conversations_created,
    CAST(SUM(num_items_added) AS BIGINT) AS num_items_added,
    CAST(SUM(num_operations) AS BIGINT) AS num_operations
  FROM narrower
  GROUP BY 1, user_id, api_key_id
) AS buckets
ORDER BY bucket, user_id NULLS FIRST, api_key_id NULLS FIRST
