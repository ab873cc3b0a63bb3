-- reconciliation: what the API reports beside what could be observed, and why they differ.
-- grain: day x user_id x api_key_id x measure, where either side has a row; times are UTC
-- inputs: usage_1d and observed_1d (of the days), visited (start_time, api_key_id, user_id; the days
--   of listings that were read since their usage came about), final_days (start_time), shared (id;
--   conversations that were listed for several users), lost (id; conversations whose items could not
--   be read, or that a complete reading no longer saw), conversations, items, responses (all that are
--   landed), dropped_responses (conversation_id; items of it count as landed: they are dropped)
-- A side without a row counts 0. difference = reported - observed. The class is the first that fits:
-- not derivable  operations, which leave no trace; a measure that is not reported; a pair that was
--                not visited, among them every NULL key; and what a user's conversations that were
--                seen under two keys can account for: the shortfalls of all the user's keys that day
--                together are at most what was observed under no key. Likewise what conversations that
--                were seen for two users account for: too many observed for no user, or the shortfalls
--                of all the key's users that day, are at most what is of such conversations.
-- match          there is no difference.
-- late           the day is not final: the API may still restate its usage.
-- undated        items without a response's time, which count for when they were first seen. Too many
--                observed: at most those of the pair that were placed on this day. Too few: at most
--                those placed on later days, in conversations created before this day's end.
-- deleted        too few observed, and something is gone that the pair had.
--                conversations: no more are missing than conversations were never landed that the
--                pair's responses name, the first of them on this day.
--                items: a conversation that is lost, or deleted without an item of it landed, and
--                was there on this day; or a response of this day, of which no item is landed, in a
--                conversation that was never landed, is lost or is deleted. How many items these had
--                nobody can tell.
-- unexplained    anything else.
WITH both_sides AS (
  SELECT
    start_time,
    user_id,
    api_key_id,
    num_conversations_created AS reported_conversations,
    num_items_added AS reported_items,
    num_operations AS reported_operations,
    0 AS observed_conversations,
    0 AS observed_items
  FROM usage_1d
  UNION ALL
  SELECT start_time, user_id, api_key_id, 0, 0, 0, num_conversations_created, num_items_added
  FROM observed_1d
), pairs AS (
  SELECT
    start_time,
    user_id,
    api_key_id,
    CASE WHEN COUNT(*) = COUNT(reported_conversations) THEN SUM(reported_conversations) END
      AS reported_conversations,
    CASE WHEN COUNT(*) = COUNT(reported_items) THEN SUM(reported_items) END AS reported_items,
    CASE WHEN COUNT(*) = COUNT(reported_operations) THEN SUM(reported_operations) END
      AS reported_operations,
    SUM(observed_conversations) AS observed_conversations,
    SUM(observed_items) AS observed_items
  FROM both_sides
  GROUP BY start_time, user_id, api_key_id
), measured AS (
  SELECT
    start_time,
    user_id,
    api_key_id,
    'num_conversations_created' AS measure,
    reported_conversations AS reported,
    observed_conversations AS observed
  FROM pairs
  UNION ALL
  SELECT start_time, user_id, api_key_id, 'num_items_added', reported_items, observed_items
  FROM pairs
  UNION ALL
  SELECT start_time, user_id, api_key_id, 'num_operations', reported_operations, NULL
  FROM pairs
), compared AS (
  SELECT
    measured.start_time,
    measured.user_id,
    measured.api_key_id,
    measured.measure,
    measured.reported,
    measured.observed,
    measured.reported - measured.observed AS difference,
    CASE WHEN listings.api_key_id IS NULL THEN 0 ELSE 1 END AS visited
  FROM measured
  LEFT JOIN (SELECT DISTINCT start_time, api_key_id, user_id FROM visited) AS listings
    ON measured.start_time = listings.start_time
    AND measured.api_key_id = listings.api_key_id
    AND measured.user_id IS NOT DISTINCT FROM listings.user_id
), of_the_user AS (
  SELECT
    start_time,
    user_id,
    api_key_id,
    measure,
    reported,
    observed,
    difference,
    visited,
    SUM(CASE WHEN visited = 1 AND difference > 0 THEN difference ELSE 0 END)
      OVER (PARTITION BY start_time, user_id, measure) AS missing,
    SUM(CASE WHEN api_key_id IS NULL AND difference < 0 THEN observed - reported ELSE 0 END)
      OVER (PARTITION BY start_time, user_id, measure) AS without_key,
    SUM(CASE WHEN visited = 1 AND difference > 0 THEN difference ELSE 0 END)
      OVER (PARTITION BY start_time, api_key_id, measure) AS missing_of_key
  FROM compared
), in_question AS (
  SELECT start_time, user_id, api_key_id, measure, difference
  FROM compared
  WHERE visited = 1 AND difference <> 0
), owners AS (
  SELECT
    conversations.id,
    conversations.user_id,
    conversations.api_key_id,
    conversations.created_at,
    conversations.deleted_at,
    CASE WHEN gone.id IS NULL THEN 0 ELSE 1 END AS lost
  FROM conversations
  LEFT JOIN (SELECT DISTINCT id FROM lost) AS gone ON conversations.id = gone.id
), of_several AS (
  SELECT
    CAST(FLOOR(epoch(owners.created_at)) AS BIGINT) // 86400 AS day_number,
    owners.api_key_id,
    'num_conversations_created' AS measure
  FROM owners
  INNER JOIN (SELECT DISTINCT id FROM shared) AS told ON owners.id = told.id
  UNION ALL
  SELECT
    CAST(FLOOR(epoch(items.added_at)) AS BIGINT) // 86400,
    owners.api_key_id,
    'num_items_added'
  FROM items
  INNER JOIN owners ON items.conversation_id = owners.id
  INNER JOIN (SELECT DISTINCT id FROM shared) AS told ON owners.id = told.id
), of_users AS (
  SELECT
    compared.start_time,
    compared.api_key_id,
    compared.measure,
    COUNT(*) AS traces
  FROM (SELECT DISTINCT start_time, api_key_id, measure FROM compared) AS compared
  INNER JOIN of_several
    ON compared.start_time = to_timestamp(of_several.day_number * 86400)
    AND compared.measure = of_several.measure
    AND (of_several.api_key_id IS NULL OR of_several.api_key_id = compared.api_key_id)
  GROUP BY compared.start_time, compared.api_key_id, compared.measure
), undated_items AS (
  SELECT
    owners.user_id,
    owners.api_key_id,
    CAST(FLOOR(epoch(owners.created_at)) AS BIGINT) // 86400 AS created_day,
    CAST(FLOOR(epoch(items.added_at)) AS BIGINT) // 86400 AS added_day,
    COUNT(*) AS items
  FROM items
  INNER JOIN owners ON items.conversation_id = owners.id
  WHERE items.added_at_source = 'observed'
  GROUP BY 1, 2, 3, 4
), undated AS (
  SELECT
    in_question.start_time,
    in_question.user_id,
    in_question.api_key_id,
    in_question.measure,
    SUM(CASE WHEN to_timestamp(undated_items.added_day * 86400) = in_question.start_time
      THEN undated_items.items ELSE 0 END) AS placed_here,
    SUM(CASE WHEN to_timestamp(undated_items.added_day * 86400) > in_question.start_time
      THEN undated_items.items ELSE 0 END) AS placed_later
  FROM in_question
  INNER JOIN undated_items
    ON in_question.api_key_id = undated_items.api_key_id
    AND in_question.user_id IS NOT DISTINCT FROM undated_items.user_id
  WHERE
    in_question.measure = 'num_items_added'
    AND to_timestamp(undated_items.created_day * 86400) <= in_question.start_time
  GROUP BY
    in_question.start_time,
    in_question.user_id,
    in_question.api_key_id,
    in_question.measure
), gone_conversations AS (
  SELECT
    owners.user_id,
    owners.api_key_id,
    CAST(FLOOR(epoch(owners.created_at)) AS BIGINT) // 86400 AS created_day,
    owners.deleted_at
  FROM owners
  LEFT JOIN (
    SELECT conversation_id FROM items
    UNION
    SELECT conversation_id FROM dropped_responses
  ) AS read_ones
    ON owners.id = read_ones.conversation_id
  WHERE
    owners.lost = 1 OR (owners.deleted_at IS NOT NULL AND read_ones.conversation_id IS NULL)
), in_gone_conversations AS (
  SELECT
    in_question.start_time,
    in_question.user_id,
    in_question.api_key_id,
    in_question.measure,
    COUNT(*) AS traces
  FROM in_question
  INNER JOIN gone_conversations
    ON in_question.api_key_id = gone_conversations.api_key_id
    AND in_question.user_id IS NOT DISTINCT FROM gone_conversations.user_id
  WHERE
    in_question.measure = 'num_items_added'
    AND to_timestamp(gone_conversations.created_day * 86400) <= in_question.start_time
    AND (
      gone_conversations.deleted_at IS NULL
      OR gone_conversations.deleted_at >= in_question.start_time
    )
  GROUP BY
    in_question.start_time,
    in_question.user_id,
    in_question.api_key_id,
    in_question.measure
), traces AS (
  SELECT
    CAST(FLOOR(epoch(MIN(responses.created_at))) AS BIGINT) // 86400 AS day_number,
    responses.user_id,
    responses.api_key_id,
    'num_conversations_created' AS measure,
    1 AS traces
  FROM responses
  LEFT JOIN owners ON responses.conversation_id = owners.id
  WHERE responses.conversation_id IS NOT NULL AND owners.id IS NULL
  GROUP BY responses.conversation_id, responses.user_id, responses.api_key_id
  UNION ALL
  SELECT
    CAST(FLOOR(epoch(responses.created_at)) AS BIGINT) // 86400,
    responses.user_id,
    responses.api_key_id,
    'num_items_added',
    1
  FROM responses
  LEFT JOIN owners ON responses.conversation_id = owners.id
  LEFT JOIN (SELECT DISTINCT response_id FROM items) AS told ON responses.id = told.response_id
  WHERE
    responses.conversation_id IS NOT NULL
    AND told.response_id IS NULL
    AND (owners.id IS NULL OR owners.lost = 1 OR owners.deleted_at IS NOT NULL)
), left_traces AS (
  SELECT
    to_timestamp(day_number * 86400) AS start_time,
    user_id,
    api_key_id,
    measure,
    SUM(traces) AS traces
  FROM traces
  GROUP BY day_number, user_id, api_key_id, measure
)
SELECT
  of_the_user.start_time AS day,
  of_the_user.user_id,
  of_the_user.api_key_id,
  of_the_user.measure,
  CAST(of_the_user.reported AS BIGINT) AS reported,
  CAST(of_the_user.observed AS BIGINT) AS observed,
  CAST(of_the_user.difference AS BIGINT) AS difference,
  CASE
    WHEN of_the_user.difference IS NULL THEN 'not derivable'
    WHEN of_the_user.visited = 0 THEN 'not derivable'
    WHEN of_the_user.difference > 0 AND of_the_user.missing <= of_the_user.without_key
      THEN 'not derivable'
    WHEN of_the_user.user_id IS NULL AND -of_the_user.difference BETWEEN 1 AND of_users.traces
      THEN 'not derivable'
    WHEN of_the_user.user_id IS NOT NULL
      AND of_the_user.difference > 0
      AND of_the_user.missing_of_key <= of_users.traces
      THEN 'not derivable'
    WHEN of_the_user.difference = 0 THEN 'match'
    WHEN final_days.start_time IS NULL THEN 'late'
    WHEN -of_the_user.difference BETWEEN 1 AND undated.placed_here THEN 'undated'
    WHEN of_the_user.difference BETWEEN 1 AND undated.placed_later THEN 'undated'
    WHEN of_the_user.measure = 'num_items_added'
      AND of_the_user.difference > 0
      AND (in_gone_conversations.traces > 0 OR left_traces.traces > 0)
      THEN 'deleted'
    WHEN of_the_user.measure = 'num_conversations_created'
      AND of_the_user.difference BETWEEN 1 AND left_traces.traces
      THEN 'deleted'
    ELSE 'unexplained'
  END AS class
FROM of_the_user
LEFT JOIN final_days ON of_the_user.start_time = final_days.start_time
LEFT JOIN of_users
  ON of_the_user.start_time = of_users.start_time
  AND of_the_user.api_key_id = of_users.api_key_id
  AND of_the_user.measure = of_users.measure
LEFT JOIN undated
  ON of_the_user.start_time = undated.start_time
  AND of_the_user.user_id IS NOT DISTINCT FROM undated.user_id
  AND of_the_user.api_key_id = undated.api_key_id
  AND of_the_user.measure = undated.measure
LEFT JOIN in_gone_conversations
  ON of_the_user.start_time = in_gone_conversations.start_time
  AND of_the_user.user_id IS NOT DISTINCT FROM in_gone_conversations.user_id
  AND of_the_user.api_key_id = in_gone_conversations.api_key_id
  AND of_the_user.measure = in_gone_conversations.measure
LEFT JOIN left_traces
  ON of_the_user.start_time = left_traces.start_time
  AND of_the_user.user_id IS NOT DISTINCT FROM left_traces.user_id
  AND of_the_user.api_key_id = left_traces.api_key_id
  AND of_the_user.measure = left_traces.measure
ORDER BY
  of_the_user.start_time,
  of_the_user.user_id NULLS FIRST,
  of_the_user.api_key_id NULLS FIRST,
  of_the_user.measure
