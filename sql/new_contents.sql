-- new_contents: what items say that are new on their day, or were not landed with their content.
-- grain: item (conversation and id); day_number is the day whose file it is in
-- inputs: seen_items, landed_items (all as they were), new_items (new, or told another time),
--   item_contents (all landed), homes (day_number, stands_on: whose file the rows of a day are in),
--   dropped_days (day_number; days whose items are dropped)
-- What is landed of an item stays what it says; it moves with its item. Of a day whose items are
-- dropped no content is kept, though some items are.
-- epoch() counts exactly for any day before the year 2500.
WITH seen AS (
  SELECT
    id,
    conversation_id,
    body,
    ROW_NUMBER() OVER (PARTITION BY conversation_id, id ORDER BY seen_at, body) AS place
  FROM seen_items
  WHERE body IS NOT NULL
), said AS (
  SELECT seen.id, seen.conversation_id, seen.body
  FROM seen
  WHERE
    seen.place = 1
    AND NOT EXISTS (
      SELECT 1
      FROM item_contents
      WHERE
        item_contents.conversation_id = seen.conversation_id AND item_contents.id = seen.id
    )
  UNION ALL
  SELECT item_contents.id, item_contents.conversation_id, item_contents.body
  FROM item_contents
  INNER JOIN new_items
    ON item_contents.conversation_id = new_items.conversation_id
    AND item_contents.id = new_items.id
)
SELECT
  said.id,
  said.conversation_id,
  said.body,
  COALESCE(homes.stands_on, CAST(FLOOR(epoch(items.added_at)) AS BIGINT) // 86400) AS day_number
FROM said
INNER JOIN (
  SELECT id, conversation_id, added_at
  FROM new_items
  UNION ALL
  SELECT landed_items.id, landed_items.conversation_id, landed_items.added_at
  FROM landed_items
  WHERE
    NOT EXISTS (
      SELECT 1
      FROM new_items
      WHERE
        new_items.conversation_id = landed_items.conversation_id
        AND new_items.id = landed_items.id
    )
) AS items
  ON said.conversation_id = items.conversation_id AND said.id = items.id
LEFT JOIN homes
  ON CAST(FLOOR(epoch(items.added_at)) AS BIGINT) // 86400 = homes.day_number
LEFT JOIN dropped_days
  ON CAST(FLOOR(epoch(items.added_at)) AS BIGINT) // 86400 = dropped_days.day_number
WHERE dropped_days.day_number IS NULL
ORDER BY day_number, said.id, said.conversation_id
