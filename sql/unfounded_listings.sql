-- unfounded_listings: listings of which something was read that is not landed.
-- grain: listing, by its number
-- inputs: named (listing: its number, and one of conversation_id and response_id that it names),
--   tails (conversation_id, last_item_id, items), conversations, items, responses (all landed),
--   dropped_responses (conversation_id; some of its items are dropped, so those that are landed say
--   nothing)
SELECT DISTINCT named.listing
FROM named
LEFT JOIN (SELECT DISTINCT id FROM conversations) AS known
  ON named.conversation_id = known.id
LEFT JOIN (SELECT DISTINCT id FROM responses) AS answered ON named.response_id = answered.id
LEFT JOIN tails ON named.conversation_id = tails.conversation_id
LEFT JOIN (
  SELECT conversation_id, COUNT(*) AS items
  FROM items
  GROUP BY conversation_id
) AS landed ON named.conversation_id = landed.conversation_id
LEFT JOIN (SELECT DISTINCT conversation_id, id FROM items) AS last_ones
  ON tails.conversation_id = last_ones.conversation_id AND tails.last_item_id = last_ones.id
LEFT JOIN (SELECT DISTINCT conversation_id FROM dropped_responses) AS excused
  ON tails.conversation_id = excused.conversation_id
WHERE
  (named.conversation_id IS NOT NULL AND known.id IS NULL)
  OR (named.response_id IS NOT NULL AND answered.id IS NULL)
  OR (
    excused.conversation_id IS NULL
    AND (
      tails.items > COALESCE(landed.items, 0)
      OR (tails.last_item_id IS NOT NULL AND last_ones.id IS NULL)
    )
  )
ORDER BY named.listing NULLS FIRST
