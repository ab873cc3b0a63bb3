-- check_rollup: rows of a table that are not the sums of the rows of a finer one, group by group.
-- grain: bucket of the coarser table x user_id x api_key_id, only where they differ
-- inputs: finer, coarser (usage tables; raw_usage counts as one)
-- parameters: width (seconds of a bucket of the coarser table)
-- No row is a pass: 60 minutes are their hour, 24 hours their day, and each group its total.
WITH summed AS (
  SELECT
    CAST(FLOOR(epoch(start_time)) AS BIGINT) // $width AS bucket,
    user_id,
    api_key_id,
    SUM(num_conversations_created) AS num_conversations_created,
    SUM(num_items_added) AS num_items_added,
    SUM(num_operations) AS num_operations
  FROM finer
  GROUP BY 1, user_id, api_key_id
), stated AS (
  SELECT
    CAST(FLOOR(epoch(start_time)) AS BIGINT) // $width AS bucket,
    user_id,
    api_key_id,
    num_conversations_created,
    num_items_added,
    num_operations
  FROM coarser
)
SELECT
  to_timestamp(COALESCE(summed.bucket, stated.bucket) * $width) AS start_time,
  CASE WHEN stated.bucket IS NULL THEN summed.user_id ELSE stated.user_id END AS user_id,
  CASE WHEN stated.bucket IS NULL THEN summed.api_key_id ELSE stated.api_key_id END AS api_key_id,
  stated.num_conversations_created,
  summed.num_conversations_created AS summed_conversations,
  stated.num_items_added,
  summed.num_items_added AS summed_items,
  stated.num_operations,
  summed.num_operations AS summed_operations
FROM stated
FULL JOIN summed
  ON stated.bucket = summed.bucket
  AND stated.user_id IS NOT DISTINCT FROM summed.user_id
  AND stated.api_key_id IS NOT DISTINCT FROM summed.api_key_id
WHERE
  stated.bucket IS NULL
  OR summed.bucket IS NULL
  OR stated.num_conversations_created IS DISTINCT FROM summed.num_conversations_created
  OR stated.num_items_added IS DISTINCT FROM summed.num_items_added
  OR stated.num_operations IS DISTINCT FROM summed.num_operations
ORDER BY start_time, user_id NULLS FIRST, api_key_id NULLS FIRST
LIMIT 20
