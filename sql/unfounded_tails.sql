-- unfounded_tails: conversations of which more was read than is landed.
-- grain: conversation
-- inputs: tails (conversation_id, last_item_id: the item that was read last, items: how many were
--   read), items (all that are landed), dropped_responses (conversation_id; some of its items are
--   dropped, so those that are landed say nothing)
SELECT tails.conversation_id
FROM tails
LEFT JOIN (
  SELECT conversation_id, COUNT(*) AS items
  FROM items
  GROUP BY conversation_id
) AS landed ON tails.conversation_id = landed.conversation_id
LEFT JOIN (SELECT DISTINCT conversation_id, id FROM items) AS last_ones
  ON tails.conversation_id = last_ones.conversation_id AND tails.last_item_id = last_ones.id
LEFT JOIN (SELECT DISTINCT conversation_id FROM dropped_responses) AS excused
  ON tails.conversation_id = excused.conversation_id
WHERE
  excused.conversation_id IS NULL
  AND (
    tails.items > COALESCE(landed.items, 0)
    OR (tails.last_item_id IS NOT NULL AND last_ones.id IS NULL)
  )
ORDER BY tails.conversation_id NULLS FIRST
