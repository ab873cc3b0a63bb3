-- new_items: items that were seen and are not landed, each with the time that it counts for.
-- grain: item (conversation and id); times are UTC
-- inputs: seen_items, seen_responses, responses (all that are landed), landed_items (conversation_id
--   and id of all that are landed)
-- No item carries a time: its response's is taken where that is known, else when it was first seen.
WITH dates AS (
  SELECT id, MIN(created_at) AS created_at
  FROM (
    SELECT id, created_at FROM seen_responses
    UNION ALL
    SELECT id, created_at FROM responses
  ) AS known
  GROUP BY id
), first_sights AS (
  SELECT
    id,
    conversation_id,
    response_id,
    type,
    role,
    content_chars,
    seen_at,
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
)
SELECT
  first_sights.id,
  first_sights.conversation_id,
  first_sights.response_id,
  first_sights.type,
  first_sights.role,
  COALESCE(dates.created_at, first_sights.seen_at) AS added_at,
  CASE WHEN dates.id IS NULL THEN 'observed' ELSE 'response' END AS added_at_source,
  first_sights.content_chars
FROM first_sights
LEFT JOIN dates ON first_sights.response_id = dates.id
WHERE
  first_sights.place = 1
  AND NOT EXISTS (
    SELECT 1
    FROM landed_items
    WHERE
      landed_items.conversation_id = first_sights.conversation_id
      AND landed_items.id = first_sights.id
  )
ORDER BY first_sights.id, first_sights.conversation_id
