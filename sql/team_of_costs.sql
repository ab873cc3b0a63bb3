-- team_of_costs: what tokens cost by bucket, team, model and currency.
-- grain: bucket x team_id x model x currency; null is a group of its own
-- inputs: costs (what cost_by gives), names (kind, id, team_id: what people wrote)
-- Usage is of the team of its user; where that has none, of the team of its key. cost is null where
-- none of the responses has a known one; num_unpriced counts those that have none.
SELECT
  costs.start_time,
  costs.end_time,
  COALESCE(users.team_id, api_keys.team_id) AS team_id,
  costs.model,
  costs.currency,
  CAST(SUM(costs.cost) AS DECIMAL(38, 15)) AS cost,
  CAST(SUM(costs.num_responses) AS BIGINT) AS num_responses,
  CAST(SUM(costs.num_unpriced) AS BIGINT) AS num_unpriced
FROM costs
LEFT JOIN names AS users
  ON users.kind = 'user' AND costs.user_id = users.id
LEFT JOIN names AS api_keys
  ON api_keys.kind = 'key' AND costs.api_key_id = api_keys.id
GROUP BY costs.start_time, costs.end_time, 3, costs.model, costs.currency
ORDER BY
  costs.start_time NULLS FIRST,
  team_id NULLS FIRST,
  costs.model NULLS FIRST,
  costs.currency NULLS FIRST
