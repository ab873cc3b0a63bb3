-- alert_costs: costs of one currency, as spikes judges them.
-- grain: a row of costs; amount is in billionths of the currency, NULL where there is no price
-- inputs: costs (what cost_by gives for hours or days)
-- parameters: currency (the one that is judged)
-- What has no price may be of any currency, so it makes each of them unknown. A response of a model
-- with a price that reports no tokens, as failed ones do, adds nothing.
SELECT
  start_time,
  user_id,
  api_key_id,
  CASE
    WHEN currency IS NOT NULL
      THEN COALESCE(CAST(CAST(cost AS DECIMAL(28, 9)) * 1000000000 AS BIGINT), 0)
  END AS amount
FROM costs
WHERE currency = $currency OR currency IS NULL
