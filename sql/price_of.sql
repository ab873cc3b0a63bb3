-- price_of: the rows of the price list that match a model on a UTC day; the first of them counts.
-- grain: model x day_number x row that matches; place 1 is the row that counts
-- inputs: model_days (what model_days gives), prices (model, like_pattern, valid_from, valid_to:
--   null while it still counts, currency, specificity; input, cached, output, reasoning: the price of
--   a token)
-- A model without a row has no price, which is not a price of zero. What names no model is priced by
-- the model * alone.
SELECT
  model_days.model,
  model_days.day_number,
  prices.model AS priced_as,
  prices.valid_from,
  prices.currency,
  prices.input,
  prices.cached,
  prices.output,
  prices.reasoning,
  ROW_NUMBER() OVER (
    PARTITION BY model_days.model, model_days.day_number
    ORDER BY prices.specificity DESC NULLS LAST
  ) AS place
FROM model_days
INNER JOIN prices
  ON (model_days.model LIKE prices.like_pattern ESCAPE '!' OR prices.model = '*')
  AND DATE '1970-01-01' + CAST(model_days.day_number AS INTEGER) >= prices.valid_from
  AND (
    prices.valid_to IS NULL
    OR DATE '1970-01-01' + CAST(model_days.day_number AS INTEGER) < prices.valid_to
  )
ORDER BY
  model_days.model NULLS FIRST, model_days.day_number NULLS FIRST, place NULLS FIRST
