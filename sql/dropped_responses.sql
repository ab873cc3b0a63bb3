-- dropped_responses: final responses of days whose items are dropped: so are the items they made.
-- grain: response
-- inputs: responses (as they are to be landed, of these days at least), dropped_days (day_number;
--   days whose items are dropped)
-- A response that is not final may get another time yet, so its items are kept.
SELECT DISTINCT responses.id, responses.conversation_id
FROM responses
INNER JOIN dropped_days
  ON CAST(FLOOR(epoch(responses.created_at)) AS BIGINT) // 86400 = dropped_days.day_number
WHERE responses.status IN ('completed', 'failed', 'cancelled', 'incomplete')
ORDER BY responses.id, responses.conversation_id NULLS FIRST
