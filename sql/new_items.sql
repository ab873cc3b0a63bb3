-- new_items: items that were seen and are not landed, and landed ones whose time is told anew.
-- grain: item (conversation and id); times are UTC
-- inputs: seen_items, dating (id; the responses that may say another time than before), responses
--   (id and created_at of all, as they are to be landed), landed_items (all that are landed),
--   misplaced (of these, those that are to stand on their own day from now on), dropped_responses
--   (id; an item that one of them made and that is not landed was dropped)
-- parameters: earliest, until (epoch seconds; a response that says it was created at another time
--   tells nothing)
-- No item carries a time: its response's is taken where that is known, else when it was first seen.
-- So an item moves when its response does, or becomes known.
WITH dates AS (
  SELECT id, MIN(created_at) AS created_at
  FROM responses
  WHERE epoch(created_at) >= $earliest AND epoch(created_at) < $until
  GROUP BY id
), first_rows AS (
  SELECT id, conversation_id, response_id, type, role, content_chars, seen_at,
    ROW_NUMBER() OVER (
      PARTITION BY conversation_id, id
      ORDER BY
        seen_at,
        response_id NULLS LAST,
        type,
        role NULLS LAST,
        content_chars NULLS LAST
    ) AS place
  FROM seen_items
), dated_anew AS (
  SELECT
    landed_items.id,
    landed_items.conversation_id,
    landed_items.response_id,
    landed_items.type,
    landed_items.role,
    dates.created_at AS added_at,
    'response' AS added_at_source,
    landed_items.content_chars
  FROM landed_items
  INNER JOIN dates ON landed_items.response_id = dates.id
  INNER JOIN (SELECT DISTINCT id FROM dating) AS asked ON dates.id = asked.id
  WHERE landed_items.added_at <> dates.created_at OR landed_items.added_at_source <> 'response'
), told AS (
  SELECT
    first_rows.id,
    first_rows.conversation_id,
    first_rows.response_id,
    first_rows.type,
    first_rows.role,
    COALESCE(dates.created_at, first_rows.seen_at) AS added_at,
    CASE WHEN dates.id IS NULL THEN 'observed' ELSE 'response' END AS added_at_source,
    first_rows.content_chars
  FROM first_rows
  LEFT JOIN dates ON first_rows.response_id = dates.id
  WHERE
    first_rows.place = 1
    AND NOT EXISTS (
      SELECT 1
      FROM landed_items
      WHERE
        landed_items.conversation_id = first_rows.conversation_id
        AND landed_items.id = first_rows.id
    )
    AND NOT EXISTS (
      SELECT 1
      FROM dropped_responses
      WHERE dropped_responses.id = first_rows.response_id
    )
  UNION ALL
  SELECT id, conversation_id, response_id, type, role, added_at, added_at_source, content_chars
  FROM dated_anew
  UNION ALL
  SELECT id, conversation_id, response_id, type, role, added_at, added_at_source, content_chars
  FROM misplaced
  WHERE
    NOT EXISTS (
      SELECT 1
      FROM dated_anew
      WHERE
        dated_anew.conversation_id = misplaced.conversation_id AND dated_anew.id = misplaced.id
    )
)
SELECT id, conversation_id, response_id, type, role, added_at, added_at_source, content_chars
FROM told
ORDER BY id, conversation_id
