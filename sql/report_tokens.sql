-- report_tokens: responses and tokens of a report's two periods, by what a clock on the wall shows.
-- grain: bar (unit) x period x paired x user_id x api_key_id x model; null is a group of its own
-- inputs: tokens (by local hour), slots (one for each local hour; slot: its start in Unix seconds;
--   period: this, before or earlier; paired: whether tokens of its day are compared; unit: the bar
--   of a chart that it is in, by the number of its first hour), names (kind, id, team_id: what people
--   wrote)
-- Usage is of the team of its user; where that has none, of the team of its key.
-- A number that no response reports stays NULL: unknown is not zero.
SELECT
  slots.period,
  slots.paired,
  slots.unit,
  tokens.user_id,
  tokens.api_key_id,
  COALESCE(users.team_id, api_keys.team_id) AS team_id,
  tokens.model,
  CAST(SUM(tokens.num_responses) AS BIGINT) AS responses,
  CAST(SUM(tokens.num_failed) AS BIGINT) AS failed,
  CAST(SUM(tokens.input_tokens) AS BIGINT) AS input,
  CAST(SUM(tokens.cached_tokens) AS BIGINT) AS cached,
  CAST(SUM(tokens.output_tokens) AS BIGINT) AS output,
  CAST(SUM(tokens.reasoning_tokens) AS BIGINT) AS reasoning,
  CAST(SUM(tokens.total_tokens) AS BIGINT) AS total
FROM tokens
INNER JOIN slots ON CAST(epoch(tokens.start_time) AS BIGINT) = slots.slot
LEFT JOIN names AS users
  ON users.kind = 'user' AND tokens.user_id = users.id
LEFT JOIN names AS api_keys
  ON api_keys.kind = 'key' AND tokens.api_key_id = api_keys.id
WHERE slots.period <> 'earlier'
GROUP BY 1, 2, 3, 4, 5, 6, 7
