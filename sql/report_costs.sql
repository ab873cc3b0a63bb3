-- report_costs: what responses of a report's two periods cost, by what a clock on the wall shows.
-- grain: bar (unit) x period x paired x user_id x team_id x model x currency; null is a group of its own
-- inputs: costs (what cost_by gives, by local hour), slots (as in report_tokens),
--   names (kind, id, team_id: what people wrote)
-- Usage is of the team of its user; where that has none, of the team of its key.
-- cost stays null where none of its responses has a known one; unpriced counts those that have none.
SELECT
  slots.period,
  slots.paired,
  slots.unit,
  costs.user_id,
  COALESCE(users.team_id, api_keys.team_id) AS team_id,
  costs.model,
  costs.currency,
  SUM(costs.cost) AS cost,
  CAST(SUM(costs.num_responses) AS BIGINT) AS responses,
  CAST(SUM(costs.num_unpriced) AS BIGINT) AS unpriced
FROM costs
INNER JOIN slots ON CAST(epoch(costs.start_time) AS BIGINT) = slots.slot
LEFT JOIN names AS users
  ON users.kind = 'user' AND costs.user_id = users.id
LEFT JOIN names AS api_keys
  ON api_keys.kind = 'key' AND costs.api_key_id = api_keys.id
WHERE slots.period <> 'earlier'
GROUP BY 1, 2, 3, 4, 5, 6, 7
