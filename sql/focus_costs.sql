-- focus_costs: what is billed, as FOCUS 1.2 (FinOps Open Cost and Usage Specification) names it.
-- grain: UTC day x user_id x api_key_id x model x team_id x org_id; times are UTC
-- inputs: costs_1d, coverage, users and api_keys (id, name)
-- The API gives an amount and nothing else, so all four costs are that amount, and its quantity is
-- the amount in its currency. An amount below 0 is a credit. A billing period is a month, and an
-- invoice is not named.
SELECT
  billed.cost AS "BilledCost",
  COALESCE(billed.org_id, '(no organisation)') AS "BillingAccountId",
  CAST(NULL AS VARCHAR) AS "BillingAccountName",
  UPPER(billed.currency) AS "BillingCurrency",
  -- 31 days after the first of a month is a day of the next one.
  CAST(
    billed.month_start + 31 - (CAST(DAY(billed.month_start + 31) AS INTEGER) - 1) AS TIMESTAMP
  ) AS "BillingPeriodEnd",
  CAST(billed.month_start AS TIMESTAMP) AS "BillingPeriodStart",
  CASE WHEN billed.cost < 0 THEN 'Credit' ELSE 'Usage' END AS "ChargeCategory",
  CAST(NULL AS VARCHAR) AS "ChargeClass",
  CASE
    WHEN billed.cost < 0 THEN COALESCE('Credit for ' || billed.model, 'Credit')
    ELSE COALESCE('Use of ' || billed.model, 'Use without a model')
  END AS "ChargeDescription",
  'Usage-Based' AS "ChargeFrequency",
  billed.end_time AS "ChargePeriodEnd",
  billed.start_time AS "ChargePeriodStart",
  billed.cost AS "ContractedCost",
  billed.cost AS "EffectiveCost",
  CAST(NULL AS VARCHAR) AS "InvoiceId",
  'MKA1' AS "InvoiceIssuerName",
  billed.cost AS "ListCost",
  billed.cost AS "PricingQuantity",
  UPPER(billed.currency) AS "PricingUnit",
  'MKA1' AS "ProviderName",
  'MKA1' AS "PublisherName",
  'AI and Machine Learning' AS "ServiceCategory",
  'MKA1 API' AS "ServiceName",
  'Generative AI' AS "ServiceSubcategory",
  billed.team_id AS "SubAccountId",
  billed.team_id AS "SubAccountName",
  billed.user_id AS "x_UserId",
  CASE WHEN billed.user_id IS NOT NULL THEN users.name END AS "x_UserName",
  billed.api_key_id AS "x_ApiKeyId",
  CASE WHEN billed.api_key_id IS NOT NULL THEN api_keys.name END AS "x_ApiKeyName",
  billed.model AS "x_Model",
  coverage.start_time IS NOT NULL AS "x_IsFinal"
FROM (
  SELECT dated.*, dated.charged_on - (CAST(DAY(dated.charged_on) AS INTEGER) - 1) AS month_start
  FROM (
    SELECT
      costs_1d.*,
      -- Billionths of it: nine digits after the point, so no division, which would round.
      CAST(cost_nano * CAST(0.000000001 AS DECIMAL(9, 9)) AS DECIMAL(38, 9)) AS cost,
      DATE '1970-01-01' + CAST(CAST(epoch(start_time) AS BIGINT) // 86400 AS INTEGER) AS charged_on
    FROM costs_1d
  ) AS dated
) AS billed
LEFT JOIN users ON billed.user_id = users.id
LEFT JOIN api_keys ON billed.api_key_id = api_keys.id
LEFT JOIN coverage
  ON billed.start_time = coverage.start_time
  AND coverage.dataset = 'costs_1d'
  AND coverage.status = 'final'
ORDER BY
  billed.start_time,
  billed.user_id NULLS FIRST,
  billed.api_key_id NULLS FIRST,
  billed.model NULLS FIRST,
  billed.team_id NULLS FIRST,
  billed.org_id NULLS FIRST
