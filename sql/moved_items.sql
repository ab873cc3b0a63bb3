-- moved_items: days with landed items of conversations whose owner is told anew.
-- grain: UTC day, by its number since 1970
-- inputs: conversations (as they are to be landed), landed (as they are), items (all landed)
-- The days' items count for another user or key than before, so their buckets are to be counted anew.
SELECT DISTINCT CAST(FLOOR(epoch(items.added_at)) AS BIGINT) // 86400 AS day_number
FROM conversations
LEFT JOIN landed ON conversations.id = landed.id
INNER JOIN items ON conversations.id = items.conversation_id
WHERE
  conversations.user_id IS DISTINCT FROM landed.user_id
  OR conversations.api_key_id IS DISTINCT FROM landed.api_key_id
ORDER BY day_number
