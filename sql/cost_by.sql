-- cost_by: what tokens cost by bucket, user, key and model, for buckets of any width in any time zone.
-- grain: bucket x user_id x api_key_id x model x currency; null is a group of its own
-- inputs: tokens_rows (a table of tokens whose buckets lie inside those asked for: minutes always
--   do), edges (start_time, end_time; what bucket_edges gives), price_of (what price_of gives for the
--   models and days of tokens_rows)
-- Of a row of tokens, the price of its UTC day counts. Cached tokens are part of the input and
-- reasoning of the output, at most all of it. Where neither input nor output is reported, or the model
-- has no price (then it has no currency either), the cost is unknown: cost is null where that is all
-- there is, and num_unpriced counts such responses; a row that does not say how many counts as one.
-- Exact, on Spark too: each kind of token by its price, in one sum, since to add decimals of 38 digits
-- would cost digits there.
WITH counted AS (
  SELECT
    buckets.start_time,
    buckets.end_time,
    tokens_rows.user_id,
    tokens_rows.api_key_id,
    tokens_rows.model,
    CAST(epoch(tokens_rows.start_time) AS BIGINT) // 86400 AS day_number,
    CASE WHEN tokens_rows.input_tokens IS NULL AND tokens_rows.output_tokens IS NULL THEN 0 ELSE 1 END
      AS is_reported,
    CAST(SUM(tokens_rows.num_responses) AS BIGINT) AS num_responses,
    CAST(SUM(COALESCE(tokens_rows.num_responses, 1)) AS BIGINT) AS at_least,
    SUM(COALESCE(tokens_rows.input_tokens, 0)) AS input_tokens,
    SUM(
      LEAST(COALESCE(tokens_rows.cached_tokens, 0), COALESCE(tokens_rows.input_tokens, 0))
    ) AS cached_tokens,
    SUM(COALESCE(tokens_rows.output_tokens, 0)) AS output_tokens,
    SUM(
      LEAST(COALESCE(tokens_rows.reasoning_tokens, 0), COALESCE(tokens_rows.output_tokens, 0))
    ) AS reasoning_tokens
  FROM tokens_rows
  INNER JOIN (
    -- By the minute, so that it is a join of equals: one of ranges takes far longer.
    SELECT
      start_time,
      end_time,
      UNNEST(
        GENERATE_SERIES(
          CAST(epoch(start_time) AS BIGINT), CAST(epoch(end_time) AS BIGINT) - 60, 60
        )
      ) AS bucket_minute
    FROM edges
  ) AS buckets
    ON CAST(epoch(tokens_rows.start_time) AS BIGINT) = buckets.bucket_minute
  GROUP BY
    buckets.start_time,
    buckets.end_time,
    tokens_rows.user_id,
    tokens_rows.api_key_id,
    tokens_rows.model,
    6,
    7
),

kinds AS (
  SELECT UNNEST(GENERATE_SERIES(1, 4)) AS kind
),

priced AS (
  SELECT
    counted.start_time,
    counted.end_time,
    counted.user_id,
    counted.api_key_id,
    counted.model,
    price_of.currency,
    CASE WHEN kinds.kind = 1 THEN counted.num_responses END AS num_responses,
    CASE
      WHEN kinds.kind = 1 AND (counted.is_reported = 0 OR price_of.currency IS NULL)
        THEN counted.at_least
      ELSE 0
    END AS num_unpriced,
    CASE
      WHEN counted.is_reported = 1
        THEN CAST(
          CASE kinds.kind
            WHEN 1 THEN counted.input_tokens - counted.cached_tokens
            WHEN 2 THEN counted.cached_tokens
            WHEN 3 THEN counted.output_tokens - counted.reasoning_tokens
            WHEN 4 THEN counted.reasoning_tokens
          END AS DECIMAL(19, 0)
        )
    END AS tokens,
    CASE kinds.kind
      WHEN 1 THEN price_of.input
      WHEN 2 THEN price_of.cached
      WHEN 3 THEN price_of.output
      WHEN 4 THEN price_of.reasoning
    END AS price
  FROM counted
  LEFT JOIN price_of
    ON counted.model IS NOT DISTINCT FROM price_of.model
    AND counted.day_number = price_of.day_number
    AND price_of.place = 1
  CROSS JOIN kinds
)

SELECT
  start_time,
  end_time,
  user_id,
  api_key_id,
  model,
  currency,
  CAST(SUM(tokens * price) AS DECIMAL(38, 15)) AS cost,
  CAST(SUM(num_responses) AS BIGINT) AS num_responses,
  CAST(SUM(num_unpriced) AS BIGINT) AS num_unpriced
FROM priced
GROUP BY start_time, end_time, user_id, api_key_id, model, currency
ORDER BY
  start_time NULLS FIRST,
  user_id NULLS FIRST,
  api_key_id NULLS FIRST,
  model NULLS FIRST,
  currency NULLS FIRST
