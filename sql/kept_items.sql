-- kept_items: items that are kept where those of some days are dropped.
-- grain: item (conversation and id); times are UTC
-- inputs: standing_items (items of a day that is dropped, or of its month and apart),
--   dropped_responses (id)
-- An item of a dropped response goes: where it is read again, the response says so. Any other would
-- come again as if it had been added then.
SELECT id, conversation_id, response_id, type, role, added_at, added_at_source, content_chars
FROM standing_items
WHERE
  NOT EXISTS (
    SELECT 1
    FROM dropped_responses
    WHERE dropped_responses.id = standing_items.response_id
  )
ORDER BY id, conversation_id
