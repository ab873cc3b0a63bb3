-- costs_1d: what the API bills of a UTC day, one row a group.
-- grain: UTC day x user_id x api_key_id x model x team_id x org_id; null is a group of its own
-- inputs: billed (the columns below; a group may have several rows)
SELECT
  start_time,
  end_time,
  user_id,
  api_key_id,
  model,
  team_id,
  org_id,
  currency,
  CAST(SUM(cost_nano) AS BIGINT) AS cost_nano
FROM billed
GROUP BY start_time, end_time, user_id, api_key_id, model, team_id, org_id, currency
ORDER BY
  start_time,
  user_id NULLS FIRST,
  api_key_id NULLS FIRST,
  model NULLS FIRST,
  team_id NULLS FIRST,
  org_id NULLS FIRST,
  currency NULLS FIRST
