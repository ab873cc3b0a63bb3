-- misplaced_items: items that stand apart, of days that are loaded now.
-- grain: item (conversation and id); times are UTC
-- inputs: apart_items (items that stand apart), homes (day_number, stands_on: whose file the rows of
--   a day are in)
SELECT
  apart_items.id,
  apart_items.conversation_id,
  apart_items.response_id,
  apart_items.type,
  apart_items.role,
  apart_items.added_at,
  apart_items.added_at_source,
  apart_items.content_chars
FROM apart_items
INNER JOIN homes
  ON CAST(FLOOR(epoch(apart_items.added_at)) AS BIGINT) // 86400 = homes.day_number
WHERE homes.stands_on = homes.day_number
ORDER BY apart_items.id, apart_items.conversation_id
