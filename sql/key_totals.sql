-- key_totals: what a table says was used in each bucket, by key, all users together.
-- grain: bucket, by its start in Unix seconds, x api_key_id; null is a group of its own
-- inputs: counted (a usage table)
SELECT
  CAST(FLOOR(epoch(start_time)) AS BIGINT) AS bucket_start,
  api_key_id,
  CAST(COALESCE(SUM(num_conversations_created), 0) AS BIGINT) AS num_conversations_created,
  CAST(COALESCE(SUM(num_items_added), 0) AS BIGINT) AS num_items_added,
  CAST(COALESCE(SUM(num_operations), 0) AS BIGINT) AS num_operations
FROM counted
GROUP BY 1, api_key_id
ORDER BY 1, api_key_id NULLS FIRST
