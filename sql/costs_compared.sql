-- costs_compared: what the API bills beside what tokens cost by the price list, and why they differ.
-- grain: UTC day x user_id x api_key_id x model x currency; null is a group of its own
-- inputs: billed_costs (a table of billed costs), computed_costs (what cost_by gives for UTC days),
--   compared_days (start_time; days of which both tables are loaded)
-- Amounts are in the currency, billed ones summed over teams. difference = billed - computed, null if
-- either is. The class is the first that fits:
-- unpriced   the cost of some tokens is unknown: their model has no price, or they are not reported
-- no tokens  billed, and no token of this user, key and model is known on this day
-- not billed tokens that cost something, and no bill of this user, key and model on this day
-- match      they differ by less than a nano unit
-- different  anything else
-- Sums of signed amounts, exact on Spark too, where to subtract decimals of 38 digits costs digits.
WITH amounts AS (
  SELECT
    start_time,
    end_time,
    user_id,
    api_key_id,
    model,
    LOWER(currency) AS currency,
    CAST(CAST(cost_nano AS DECIMAL(19, 0)) * CAST('0.000000001' AS DECIMAL(9, 9)) AS DECIMAL(28, 15))
      AS billed,
    CAST(NULL AS DECIMAL(38, 15)) AS computed,
    0 AS num_unpriced,
    1 AS is_bill
  FROM billed_costs
  UNION ALL
  SELECT start_time, end_time, user_id, api_key_id, model, currency, NULL, cost, num_unpriced, 0
  FROM computed_costs
),

sides AS (
  SELECT
    amounts.start_time,
    amounts.end_time,
    amounts.user_id,
    amounts.api_key_id,
    amounts.model,
    amounts.currency,
    CAST(SUM(amounts.billed) AS DECIMAL(38, 15)) AS billed,
    CAST(SUM(amounts.computed) AS DECIMAL(38, 15)) AS computed,
    CAST(SUM(COALESCE(amounts.billed, -amounts.computed)) AS DECIMAL(38, 15)) AS difference,
    SUM(amounts.num_unpriced) AS num_unpriced,
    MAX(amounts.is_bill) AS has_bill,
    MIN(amounts.is_bill) AS has_no_tokens
  FROM amounts
  INNER JOIN compared_days ON amounts.start_time = compared_days.start_time
  GROUP BY
    amounts.start_time,
    amounts.end_time,
    amounts.user_id,
    amounts.api_key_id,
    amounts.model,
    amounts.currency
),

of_all_currencies AS (
  SELECT
    start_time,
    end_time,
    user_id,
    api_key_id,
    model,
    currency,
    billed,
    computed,
    CASE WHEN billed IS NOT NULL AND computed IS NOT NULL THEN difference END AS difference,
    SUM(num_unpriced) OVER (PARTITION BY start_time, user_id, api_key_id, model) AS num_unpriced,
    MAX(has_bill) OVER (PARTITION BY start_time, user_id, api_key_id, model) AS has_bill,
    MIN(has_no_tokens) OVER (PARTITION BY start_time, user_id, api_key_id, model) AS has_no_tokens
  FROM sides
)

SELECT
  start_time,
  end_time,
  user_id,
  api_key_id,
  model,
  currency,
  billed,
  computed,
  difference,
  CASE
    WHEN num_unpriced > 0 THEN 'unpriced'
    WHEN has_no_tokens = 1 THEN 'no tokens'
    WHEN has_bill = 0 THEN 'not billed'
    WHEN difference > -0.000000001 AND difference < 0.000000001 THEN 'match'
    ELSE 'different'
  END AS class
FROM of_all_currencies
-- What has no price has no currency: it stands in the row of the bill, where there is one.
WHERE billed IS NOT NULL OR computed IS NOT NULL OR has_bill = 0
ORDER BY
  start_time NULLS FIRST,
  user_id NULLS FIRST,
  api_key_id NULLS FIRST,
  model NULLS FIRST,
  currency NULLS FIRST
