-- item_contents: what is landed of one day, and the new contents of the same day.
-- grain: item (conversation and id)
-- inputs: landed_contents (item_contents of the day), new_items (an item among them that is landed has
--   moved, and its content with it), new_contents (of the day)
SELECT id, conversation_id, body
FROM (
  SELECT id, conversation_id, body
  FROM landed_contents
  WHERE
    NOT EXISTS (
      SELECT 1
      FROM new_items
      WHERE
        new_items.conversation_id = landed_contents.conversation_id
        AND new_items.id = landed_contents.id
    )
  UNION ALL
  SELECT id, conversation_id, body FROM new_contents
) AS both_of_them
ORDER BY id, conversation_id
