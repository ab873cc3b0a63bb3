-- items: what is landed of some days, and the new items of the same days.
-- grain: item (conversation and id); times are UTC
-- inputs: landed_items (of the days), new_items
-- Ordered by UTC day first: one file a day. epoch() counts exactly for any day before the year 2500.
SELECT
  id,
  conversation_id,
  response_id,
  type,
  role,
  added_at,
  added_at_source,
  content_chars
FROM (
  SELECT
    id,
    conversation_id,
    response_id,
    type,
    role,
    added_at,
    added_at_source,
    content_chars
  FROM landed_items
  UNION ALL
  SELECT
    id,
    conversation_id,
    response_id,
    type,
    role,
    added_at,
    added_at_source,
    content_chars
  FROM new_items
) AS both_of_them
ORDER BY CAST(FLOOR(epoch(added_at)) AS BIGINT) // 86400, id, conversation_id
