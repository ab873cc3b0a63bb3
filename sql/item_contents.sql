-- item_contents: what is landed of one day, and the new contents of the same day.
-- grain: item (conversation and id)
-- inputs: landed_contents (item_contents of the day), new_contents (of the day)
SELECT id, conversation_id, body
FROM (
  SELECT id, conversation_id, body FROM landed_contents
  UNION ALL
  SELECT id, conversation_id, body FROM new_contents
) AS both_of_them
ORDER BY id, conversation_id
