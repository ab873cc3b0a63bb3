-- usage_by: usage by bucket, user and key, for buckets of any width in any time zone.
-- grain: bucket x user_id x api_key_id; null is a group of its own
-- inputs: usage_rows (a usage table whose buckets lie inside those asked for: minutes always do),
--   edges (start_time, end_time; what bucket_edges gives)
SELECT
  buckets.start_time,
  buckets.end_time,
  usage_rows.user_id,
  usage_rows.api_key_id,
  CAST(SUM(usage_rows.num_conversations_created) AS BIGINT) AS num_conversations_created,
  CAST(SUM(usage_rows.num_items_added) AS BIGINT) AS num_items_added,
  CAST(SUM(usage_rows.num_operations) AS BIGINT) AS num_operations
FROM usage_rows
INNER JOIN (
  -- By the minute, so that it is a join of equals: one of ranges takes far longer.
  SELECT
    start_time,
    end_time,
    UNNEST(
      GENERATE_SERIES(
        CAST(epoch(start_time) AS BIGINT), CAST(epoch(end_time) AS BIGINT) - 60, 60
      )
    ) AS bucket_minute
  FROM edges
) AS buckets
  ON CAST(epoch(usage_rows.start_time) AS BIGINT) = buckets.bucket_minute
GROUP BY buckets.start_time, buckets.end_time, usage_rows.user_id, usage_rows.api_key_id
ORDER BY
  buckets.start_time, usage_rows.user_id NULLS FIRST, usage_rows.api_key_id NULLS FIRST
