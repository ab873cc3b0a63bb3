-- report_costs: what responses of a report's two periods cost, by what a clock on the wall shows.
-- grain: bar (unit) x period x paired x user_id x model x currency; null is a group of its own
-- inputs: costs (what cost_by gives, by local hour), slots (as in report_tokens)
-- cost stays null where none of its responses has a known one; unpriced counts those that have none.
SELECT
  slots.period,
  slots.paired,
  slots.unit,
  costs.user_id,
  costs.model,
  costs.currency,
  SUM(costs.cost) AS cost,
  CAST(SUM(costs.num_responses) AS BIGINT) AS responses,
  CAST(SUM(costs.num_unpriced) AS BIGINT) AS unpriced
FROM costs
INNER JOIN slots ON CAST(epoch(costs.start_time) AS BIGINT) = slots.slot
WHERE slots.period <> 'earlier'
GROUP BY 1, 2, 3, 4, 5, 6
