-- new_contents: what items say that were seen with their content, where it is not landed yet.
-- grain: item (conversation and id), with the time that it counts for, UTC
-- inputs: seen_items, items (landed and new), item_contents (conversation_id and id of all landed)
-- Ordered by UTC day first: one file a day. epoch() counts exactly for any day before the year 2500.
SELECT
  said.id,
  said.conversation_id,
  said.body,
  items.added_at
FROM (
  SELECT
    id,
    conversation_id,
    body,
    ROW_NUMBER() OVER (PARTITION BY conversation_id, id ORDER BY seen_at, body) AS place
  FROM seen_items
  WHERE body IS NOT NULL
) AS said
INNER JOIN items ON said.conversation_id = items.conversation_id AND said.id = items.id
WHERE
  said.place = 1
  AND NOT EXISTS (
    SELECT 1
    FROM item_contents
    WHERE
      item_contents.conversation_id = said.conversation_id AND item_contents.id = said.id
  )
ORDER BY
  CAST(FLOOR(epoch(items.added_at)) AS BIGINT) // 86400,
  said.id,
  said.conversation_id
