-- report_cost_sums: what responses of one period cost, in all or by bar, model, user or team.
-- grain: group of `grouped` x currency; null: the currency of models without a price
-- inputs: period_costs (what report_costs gives)
-- parameters: period (this or before), paired_only (boolean: only days that are compared),
--   grouped (all, unit, model, user or team)
SELECT
  CASE WHEN $grouped = 'unit' THEN unit END AS unit,
  CASE
    WHEN $grouped = 'model' THEN model
    WHEN $grouped = 'user' THEN user_id
    WHEN $grouped = 'team' THEN team_id
  END AS id,
  currency,
  SUM(cost) AS cost,
  CAST(SUM(responses) AS BIGINT) AS responses,
  CAST(SUM(unpriced) AS BIGINT) AS unpriced
FROM period_costs
WHERE period = $period AND (paired OR NOT $paired_only)
GROUP BY 1, 2, 3
ORDER BY responses DESC NULLS LAST, currency NULLS LAST
