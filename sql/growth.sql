-- growth: users and keys whose usage is not what it was when their listing was read last.
-- grain: user_id x api_key_id, only where it differs on some day; null is a group of its own
-- inputs: usage_1d, observed_1d (each of all days that are there), visits (start_time, user_id,
--   api_key_id and the three measures, as usage of the day said when the listing was read last)
-- Compared day by day: what is restated away on one day and comes about on another is no less new.
-- expected_* is how much must have come about since, at least: what neither was reported then nor
-- has been observed in the meantime.
SELECT
  user_id,
  api_key_id,
  CAST(SUM(GREATEST(conversations - GREATEST(seen_conversations, known_conversations), 0)) AS BIGINT)
    AS expected_conversations,
  CAST(SUM(GREATEST(items - GREATEST(seen_items, known_items), 0)) AS BIGINT) AS expected_items
FROM (
  SELECT
    user_id,
    api_key_id,
    SUM(conversations) AS conversations,
    SUM(items) AS items,
    SUM(operations) AS operations,
    SUM(known_conversations) AS known_conversations,
    SUM(known_items) AS known_items,
    SUM(known_operations) AS known_operations,
    SUM(seen_conversations) AS seen_conversations,
    SUM(seen_items) AS seen_items
  FROM (
    SELECT
      start_time,
      user_id,
      api_key_id,
      COALESCE(num_conversations_created, 0) AS conversations,
      COALESCE(num_items_added, 0) AS items,
      COALESCE(num_operations, 0) AS operations,
      0 AS known_conversations,
      0 AS known_items,
      0 AS known_operations,
      0 AS seen_conversations,
      0 AS seen_items
    FROM usage_1d
    UNION ALL
    SELECT start_time, user_id, api_key_id, 0, 0, 0, num_conversations_created, num_items_added,
      num_operations, 0, 0
    FROM visits
    UNION ALL
    SELECT start_time, user_id, api_key_id, 0, 0, 0, 0, 0, 0, num_conversations_created,
      num_items_added
    FROM observed_1d
  ) AS sides
  GROUP BY start_time, user_id, api_key_id
) AS days
GROUP BY user_id, api_key_id
HAVING
  COUNT(
    CASE
      WHEN
        conversations <> known_conversations
        OR items <> known_items
        OR operations <> known_operations
        THEN 1
    END
  ) > 0
ORDER BY user_id NULLS FIRST, api_key_id NULLS FIRST
