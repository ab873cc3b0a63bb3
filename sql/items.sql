-- items: what is landed of some days, and the new items of the same days.
-- grain: item (conversation and id); times are UTC; day_number is the day whose file it is in
-- inputs: landed_items (of the days), new_items (of the days; one that is landed has moved), homes
--   (day_number, stands_on: whose file the rows of a day are in)
-- epoch() counts exactly for any day before the year 2500.
SELECT
  both_of_them.id,
  both_of_them.conversation_id,
  both_of_them.response_id,
  both_of_them.type,
  both_of_them.role,
  both_of_them.added_at,
  both_of_them.added_at_source,
  both_of_them.content_chars,
  COALESCE(homes.stands_on, CAST(FLOOR(epoch(both_of_them.added_at)) AS BIGINT) // 86400)
    AS day_number
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
LEFT JOIN homes
  ON CAST(FLOOR(epoch(both_of_them.added_at)) AS BIGINT) // 86400 = homes.day_number
ORDER BY day_number, both_of_them.id, both_of_them.conversation_id
