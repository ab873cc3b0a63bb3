-- bucket_totals: what a table says was used in each bucket, all users and keys together.
-- grain: bucket, by its start in Unix seconds; buckets without usage are left out
-- inputs: counted (a usage table)
SELECT
  CAST(FLOOR(epoch(start_time)) AS BIGINT) AS bucket_start,
  CAST(COALESCE(SUM(num_conversations_created), 0) AS BIGINT) AS num_conversations_created,
  CAST(COALESCE(SUM(num_items_added), 0) AS BIGINT) AS num_items_added,
  CAST(COALESCE(SUM(num_operations), 0) AS BIGINT) AS num_operations
FROM counted
GROUP BY 1
ORDER BY 1
