-- fact_costs: what is billed by day, user, key, model, team and organisation, with the numbers that
--   its dimensions are joined by.
-- grain: UTC day x user_id x api_key_id x model x team_id x org_id; times are UTC
-- inputs: costs_1d, coverage, users, api_keys, models and teams (id, number), names (kind, id,
--   team_id: what people wrote; team_id of a bill is what the API says)
-- As in fact_usage, none has the number 0. A day is final where coverage says so of its first hour:
-- bills are read by the day.
SELECT
  DATE '1970-01-01' + CAST(CAST(epoch(costs_1d.start_time) AS BIGINT) // 86400 AS INTEGER)
    AS "date",
  COALESCE(users.number, 0) AS user_key,
  COALESCE(api_keys.number, 0) AS api_key_key,
  COALESCE(models.number, 0) AS model_key,
  costs_1d.user_id,
  costs_1d.api_key_id,
  costs_1d.model,
  costs_1d.team_id,
  costs_1d.org_id,
  costs_1d.currency,
  costs_1d.cost_nano,
  -- Billionths of it: nine digits after the point, so no division, which would round.
  CAST(costs_1d.cost_nano * CAST(0.000000001 AS DECIMAL(9, 9)) AS DECIMAL(38, 9)) AS cost,
  COALESCE(teams.number, 0) AS team_key,
  coverage.start_time IS NOT NULL AS is_final
FROM costs_1d
LEFT JOIN users ON costs_1d.user_id = users.id
LEFT JOIN api_keys ON costs_1d.api_key_id = api_keys.id
LEFT JOIN models ON costs_1d.model = models.id
LEFT JOIN names AS user_names
  ON user_names.kind = 'user' AND costs_1d.user_id = user_names.id
LEFT JOIN names AS key_names
  ON key_names.kind = 'key' AND costs_1d.api_key_id = key_names.id
LEFT JOIN teams ON COALESCE(user_names.team_id, key_names.team_id) = teams.id
LEFT JOIN coverage
  ON costs_1d.start_time = coverage.start_time
  AND coverage.dataset = 'costs_1d'
  AND coverage.status = 'final'
ORDER BY
  costs_1d.start_time,
  costs_1d.user_id NULLS FIRST,
  costs_1d.api_key_id NULLS FIRST,
  costs_1d.model NULLS FIRST,
  costs_1d.team_id NULLS FIRST,
  costs_1d.org_id NULLS FIRST
