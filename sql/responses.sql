-- responses: what is landed of some days, and what was seen since of the same days.
-- grain: response; times are UTC; day_number is the day (since 1970) whose file it is in
-- inputs: seen (seen_responses), landed (responses of the days), disputed (id; those that were
--   listed for several users), homes (day_number, stands_on: whose file the rows of a day are in)
-- parameters: earliest, until (epoch seconds; what says that it was created at another time is in no
--   day's file but in that of number 0)
-- The latest row wins, whole: a response changes until it is final. What is landed was seen before.
-- User and key are told as for conversations.
-- epoch() counts exactly for any day before the year 2500.
WITH listed AS (
  SELECT id, conversation_id, created_at, status, model, user_id, api_key_id, input_tokens,
    cached_tokens, output_tokens, reasoning_tokens, total_tokens, seen_at
  FROM seen
  UNION ALL
  SELECT id, conversation_id, created_at, status, model, user_id, api_key_id, input_tokens,
    cached_tokens, output_tokens, reasoning_tokens, total_tokens, CAST(NULL AS TIMESTAMPTZ)
  FROM landed
), owners AS (
  SELECT
    id,
    MAX(user_id) AS user_id,
    CASE
      WHEN COUNT(*) = COUNT(api_key_id) AND MIN(api_key_id) = MAX(api_key_id) THEN MIN(api_key_id)
    END AS api_key_id
  FROM listed
  GROUP BY id
), ranked AS (
  SELECT id, conversation_id, created_at, status, model, input_tokens, cached_tokens,
    output_tokens, reasoning_tokens, total_tokens,
    ROW_NUMBER() OVER (
      PARTITION BY id
      ORDER BY
        seen_at DESC NULLS LAST,
        total_tokens DESC NULLS LAST,
        output_tokens DESC NULLS LAST,
        input_tokens DESC NULLS LAST,
        reasoning_tokens DESC NULLS LAST,
        cached_tokens DESC NULLS LAST,
        status,
        created_at,
        model NULLS LAST,
        conversation_id NULLS LAST
    ) AS place
  FROM listed
)
SELECT
  owners.id,
  ranked.conversation_id,
  ranked.created_at,
  ranked.status,
  ranked.model,
  CASE WHEN disputed.id IS NULL THEN owners.user_id END AS user_id,
  owners.api_key_id,
  ranked.input_tokens,
  ranked.cached_tokens,
  ranked.output_tokens,
  ranked.reasoning_tokens,
  ranked.total_tokens,
  CASE
    WHEN epoch(ranked.created_at) >= $earliest AND epoch(ranked.created_at) < $until
      THEN homes.stands_on
    ELSE 0
  END AS day_number
FROM owners
INNER JOIN ranked ON owners.id = ranked.id AND ranked.place = 1
LEFT JOIN disputed ON owners.id = disputed.id
LEFT JOIN homes
  ON CAST(FLOOR(epoch(ranked.created_at)) AS BIGINT) // 86400 = homes.day_number
ORDER BY day_number, owners.id
