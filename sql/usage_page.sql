-- usage_page: usage by bucket and by any subset of user and key.
-- grain: bucket x the ids that are grouped by; an id that is not grouped by is NULL
-- inputs: usage (a usage table: the buckets and users that are asked for)
-- parameters: by_user, by_key (booleans)
SELECT
  CAST(epoch(start_time) AS BIGINT) AS bucket_start,
  CASE WHEN $by_user THEN user_id END AS group_user_id,
  CASE WHEN $by_key THEN api_key_id END AS group_api_key_id,
  CAST(SUM(num_conversations_created) AS BIGINT) AS num_conversations_created,
  CAST(SUM(num_items_added) AS BIGINT) AS num_items_added,
  CAST(SUM(num_operations) AS BIGINT) AS num_operations
FROM usage
GROUP BY 1, 2, 3
ORDER BY 1, 2 NULLS FIRST, 3 NULLS FIRST
