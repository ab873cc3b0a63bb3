-- team_of_tokens: responses and tokens by bucket, team and model.
-- grain: bucket x team_id x model; null is a group of its own
-- inputs: tokens (bucket x user x key x model), names (kind, id, team_id: what people wrote)
-- Usage is of the team of its user; where that has none, of the team of its key.
SELECT
  tokens.start_time,
  tokens.end_time,
  COALESCE(users.team_id, api_keys.team_id) AS team_id,
  tokens.model,
  CAST(SUM(tokens.num_responses) AS BIGINT) AS num_responses,
  CAST(SUM(tokens.num_failed) AS BIGINT) AS num_failed,
  CAST(SUM(tokens.input_tokens) AS BIGINT) AS input_tokens,
  CAST(SUM(tokens.cached_tokens) AS BIGINT) AS cached_tokens,
  CAST(SUM(tokens.output_tokens) AS BIGINT) AS output_tokens,
  CAST(SUM(tokens.reasoning_tokens) AS BIGINT) AS reasoning_tokens,
  CAST(SUM(tokens.total_tokens) AS BIGINT) AS total_tokens
FROM tokens
LEFT JOIN names AS users
  ON users.kind = 'user' AND tokens.user_id = users.id
LEFT JOIN names AS api_keys
  ON api_keys.kind = 'key' AND tokens.api_key_id = api_keys.id
GROUP BY tokens.start_time, tokens.end_time, 3, tokens.model
ORDER BY tokens.start_time NULLS FIRST, team_id NULLS FIRST, tokens.model NULLS FIRST
