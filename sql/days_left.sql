-- days_left: days that items stand on which stand on another day from now on.
-- grain: UTC day, by its number since 1970
-- inputs: landed_items (all), new_items (those whose time is told anew among them)
SELECT DISTINCT CAST(FLOOR(epoch(landed_items.added_at)) AS BIGINT) // 86400 AS day_number
FROM landed_items
INNER JOIN new_items
  ON landed_items.conversation_id = new_items.conversation_id AND landed_items.id = new_items.id
ORDER BY day_number NULLS FIRST
