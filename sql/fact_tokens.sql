-- fact_tokens: responses, tokens and their cost by hour, user, key and model, with the numbers that
--   its dimensions are joined by.
-- grain: 1h bucket x user_id x api_key_id x model; times are UTC
-- inputs: tokens_1h, costs (what cost_by gives for the same hours), coverage, users,
--   api_keys, models and teams (id, number), names (kind, id, team_id: what people wrote)
-- As in fact_usage, none has the number 0. An hour is final where coverage says so of tokens_1h. An
-- hour has one price of a model, since prices begin at midnight UTC: so one row of costs.
SELECT
  DATE '1970-01-01' + CAST(CAST(epoch(tokens_1h.start_time) AS BIGINT) // 86400 AS INTEGER)
    AS "date",
  tokens_1h.start_time,
  CAST(epoch(tokens_1h.start_time) AS BIGINT) % 86400 // 3600 AS hour_of_day,
  COALESCE(users.number, 0) AS user_key,
  COALESCE(api_keys.number, 0) AS api_key_key,
  COALESCE(models.number, 0) AS model_key,
  tokens_1h.user_id,
  tokens_1h.api_key_id,
  tokens_1h.model,
  tokens_1h.num_responses,
  tokens_1h.num_failed,
  tokens_1h.input_tokens,
  tokens_1h.cached_tokens,
  tokens_1h.output_tokens,
  tokens_1h.reasoning_tokens,
  tokens_1h.total_tokens,
  costs.currency,
  costs.cost,
  costs.num_unpriced,
  COALESCE(teams.number, 0) AS team_key,
  coverage.start_time IS NOT NULL AS is_final
FROM tokens_1h
LEFT JOIN users ON tokens_1h.user_id = users.id
LEFT JOIN api_keys ON tokens_1h.api_key_id = api_keys.id
LEFT JOIN models ON tokens_1h.model = models.id
LEFT JOIN costs
  ON tokens_1h.start_time = costs.start_time
  AND tokens_1h.user_id IS NOT DISTINCT FROM costs.user_id
  AND tokens_1h.api_key_id IS NOT DISTINCT FROM costs.api_key_id
  AND tokens_1h.model IS NOT DISTINCT FROM costs.model
LEFT JOIN names AS user_names
  ON user_names.kind = 'user' AND tokens_1h.user_id = user_names.id
LEFT JOIN names AS key_names
  ON key_names.kind = 'key' AND tokens_1h.api_key_id = key_names.id
LEFT JOIN teams ON COALESCE(user_names.team_id, key_names.team_id) = teams.id
LEFT JOIN coverage
  ON tokens_1h.start_time = coverage.start_time
  AND coverage.dataset = 'tokens_1h'
  AND coverage.status = 'final'
ORDER BY
  tokens_1h.start_time,
  tokens_1h.user_id NULLS FIRST,
  tokens_1h.api_key_id NULLS FIRST,
  tokens_1h.model NULLS FIRST
