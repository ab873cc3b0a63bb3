-- items: what is landed of some days, and the new items of the same days.
-- grain: item (conversation and id); times are UTC; day_number is the UTC day whose file it is in
-- inputs: landed_items (of the days), new_items (of the days; one that is landed has moved)
-- epoch() counts exactly for any day before the year 2500.
SELECT
  id,
  conversation_id,
  response_id,
  type,
  role,
  added_at,
  added_at_source,
  content_chars,
  CAST(FLOOR(epoch(added_at)) AS BIGINT) // 86400 AS day_number
FROM (
  SELECT id, conversation_id, response_id, type, role, added_at, added_at_source, content_chars
  FROM landed_items
  WHERE
    NOT EXISTS (
      SELECT 1
      FROM new_items
      WHERE
        new_items.conversation_id = landed_items.conversation_id
        AND new_items.id = landed_items.id
    )
  UNION ALL
  SELECT id, conversation_id, response_id, type, role, added_at, added_at_source, content_chars
  FROM new_items
) AS both_of_them
ORDER BY day_number, id, conversation_id
