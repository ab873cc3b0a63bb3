-- observed_1m: what conversations and items come to, by minute, user and key.
-- grain: 1m bucket x user_id x api_key_id; times are UTC, null is a group of its own
-- inputs: created_conversations (conversations of the days), items (of the days), conversations
--   (all landed: whose an item is), extents (day_number since 1970, through: epoch seconds; what came
--   later on that day is not counted)
-- Deleted conversations count: they were created. An item counts for the user and key of its
-- conversation. Operations leave no trace, so they are NULL.
SELECT
  to_timestamp(bucket * 60) AS start_time,
  to_timestamp(bucket * 60 + 60) AS end_time,
  user_id,
  api_key_id,
  num_conversations_created,
  num_items_added,
  CAST(NULL AS BIGINT) AS num_operations
FROM (
  SELECT
    bucket,
    user_id,
    api_key_id,
    CAST(SUM(conversations) AS BIGINT) AS num_conversations_created,
    CAST(SUM(items) AS BIGINT) AS num_items_added
  FROM (
    SELECT
      CAST(FLOOR(epoch(created_conversations.created_at)) AS BIGINT) // 60 AS bucket,
      created_conversations.user_id,
      created_conversations.api_key_id,
      1 AS conversations,
      0 AS items
    FROM created_conversations
    INNER JOIN extents
      ON CAST(FLOOR(epoch(created_conversations.created_at)) AS BIGINT) // 86400
      = extents.day_number
    WHERE created_conversations.created_at < to_timestamp(extents.through)
    UNION ALL
    SELECT
      CAST(FLOOR(epoch(items.added_at)) AS BIGINT) // 60,
      conversations.user_id,
      conversations.api_key_id,
      0,
      1
    FROM items
    INNER JOIN extents
      ON CAST(FLOOR(epoch(items.added_at)) AS BIGINT) // 86400 = extents.day_number
    LEFT JOIN conversations ON items.conversation_id = conversations.id
    WHERE items.added_at < to_timestamp(extents.through)
  ) AS events
  GROUP BY bucket, user_id, api_key_id
) AS buckets
ORDER BY bucket, user_id NULLS FIRST, api_key_id NULLS FIRST
