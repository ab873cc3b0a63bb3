-- revisions: what the API has restated of a day's minutes, added to what it had restated before.
-- grain: 1m bucket x user_id x api_key_id x measure x time it was seen
-- inputs: before and after (usage_1m, as it stood and as it is to stand), revisions_before
-- parameters: known_through (Unix seconds: through when both are loaded), seen_at (a timestamp)
-- NULL stands for a row that is not there, as for a number that is not. A minute that one of them has
-- not been loaded through is no restatement.
WITH paired AS (
  SELECT
    COALESCE(before.start_time, after.start_time) AS start_time,
    COALESCE(before.end_time, after.end_time) AS end_time,
    CASE WHEN before.start_time IS NULL THEN after.user_id ELSE before.user_id END AS user_id,
    CASE WHEN before.start_time IS NULL THEN after.api_key_id ELSE before.api_key_id END
      AS api_key_id,
    before.num_conversations_created AS old_conversations,
    after.num_conversations_created AS new_conversations,
    before.num_items_added AS old_items,
    after.num_items_added AS new_items,
    before.num_operations AS old_operations,
    after.num_operations AS new_operations
  FROM before
  FULL JOIN after
    ON before.start_time = after.start_time
    AND before.user_id IS NOT DISTINCT FROM after.user_id
    AND before.api_key_id IS NOT DISTINCT FROM after.api_key_id
), measured AS (
  SELECT start_time, end_time, user_id, api_key_id, 'num_conversations_created' AS measure,
    old_conversations AS old_value, new_conversations AS new_value
  FROM paired
  UNION ALL
  SELECT start_time, end_time, user_id, api_key_id, 'num_items_added', old_items, new_items
  FROM paired
  UNION ALL
  SELECT start_time, end_time, user_id, api_key_id, 'num_operations', old_operations,
    new_operations
  FROM paired
), everything AS (
  SELECT start_time, end_time, user_id, api_key_id, measure, old_value, new_value,
    CAST($seen_at AS TIMESTAMPTZ) AS seen_at
  FROM measured
  WHERE old_value IS DISTINCT FROM new_value AND epoch(start_time) < $known_through
  UNION ALL
  SELECT start_time, end_time, user_id, api_key_id, measure, old_value, new_value, seen_at
  FROM revisions_before
)
SELECT start_time, end_time, user_id, api_key_id, measure, old_value, new_value, seen_at
FROM everything
ORDER BY
  start_time,
  end_time,
  user_id NULLS FIRST,
  api_key_id NULLS FIRST,
  measure,
  old_value NULLS FIRST,
  new_value NULLS FIRST,
  seen_at
