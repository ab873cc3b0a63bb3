-- reconciliation_tokens: tokens that the API reports of responses beside those of the responses.
-- grain: day x user_id x api_key_id x measure, where either side has a row; times are UTC
-- inputs: meters_1d and tokens_1d (of the days), metered_days (start_time; those of which the
--   endpoint of responses is loaded), visited (start_time, api_key_id, user_id), final_metered_days
--   (start_time; those of which it was read after the API's time to restate it)
-- A measure that the endpoint does not report on a day is not compared. A side without a row counts
-- 0. difference = reported - observed. The class is the first that fits, as in reconciliation:
-- not derivable  a pair that was not visited; what responses that were seen under two keys account
--                for: the shortfalls of the user's keys that day are at most what is under no key.
-- match          there is no difference.
-- late           the day is not final.
-- unexplained    anything else.
WITH reported_rows AS (
  SELECT
    start_time,
    user_id,
    api_key_id,
    CASE measure
      WHEN 'num_model_requests' THEN 'num_responses'
      WHEN 'input_cached_tokens' THEN 'cached_tokens'
      WHEN 'output_reasoning_tokens' THEN 'reasoning_tokens'
      ELSE measure
    END AS measure,
    value
  FROM meters_1d
  WHERE endpoint = 'responses'
), responses_of AS (
  SELECT tokens_1d.start_time, tokens_1d.user_id, tokens_1d.api_key_id, tokens_1d.num_responses,
    tokens_1d.input_tokens, tokens_1d.cached_tokens, tokens_1d.output_tokens,
    tokens_1d.reasoning_tokens, tokens_1d.total_tokens
  FROM tokens_1d
  INNER JOIN metered_days ON tokens_1d.start_time = metered_days.start_time
), observed_rows AS (
  SELECT start_time, user_id, api_key_id, 'num_responses' AS measure, num_responses AS value
  FROM responses_of
  UNION ALL
  SELECT start_time, user_id, api_key_id, 'input_tokens', input_tokens FROM responses_of
  UNION ALL
  SELECT start_time, user_id, api_key_id, 'cached_tokens', cached_tokens FROM responses_of
  UNION ALL
  SELECT start_time, user_id, api_key_id, 'output_tokens', output_tokens FROM responses_of
  UNION ALL
  SELECT start_time, user_id, api_key_id, 'reasoning_tokens', reasoning_tokens FROM responses_of
  UNION ALL
  SELECT start_time, user_id, api_key_id, 'total_tokens', total_tokens FROM responses_of
), both_sides AS (
  SELECT start_time, user_id, api_key_id, measure, value AS reported, 0 AS observed
  FROM reported_rows
  UNION ALL
  SELECT start_time, user_id, api_key_id, measure, 0, value FROM observed_rows
), compared AS (
  SELECT
    both_sides.start_time,
    both_sides.user_id,
    both_sides.api_key_id,
    both_sides.measure,
    COALESCE(SUM(both_sides.reported), 0) AS reported,
    COALESCE(SUM(both_sides.observed), 0) AS observed
  FROM both_sides
  INNER JOIN (SELECT DISTINCT start_time, measure FROM reported_rows) AS told
    ON both_sides.start_time = told.start_time AND both_sides.measure = told.measure
  INNER JOIN (SELECT DISTINCT measure FROM observed_rows) AS known
    ON both_sides.measure = known.measure
  GROUP BY
    both_sides.start_time,
    both_sides.user_id,
    both_sides.api_key_id,
    both_sides.measure
), of_the_user AS (
  SELECT
    compared.start_time,
    compared.user_id,
    compared.api_key_id,
    compared.measure,
    compared.reported,
    compared.observed,
    compared.reported - compared.observed AS difference,
    CASE WHEN listings.api_key_id IS NULL THEN 0 ELSE 1 END AS visited,
    SUM(
      CASE WHEN listings.api_key_id IS NOT NULL AND compared.reported > compared.observed
        THEN compared.reported - compared.observed ELSE 0 END
    ) OVER (PARTITION BY compared.start_time, compared.user_id, compared.measure) AS missing,
    SUM(
      CASE WHEN compared.api_key_id IS NULL AND compared.reported < compared.observed
        THEN compared.observed - compared.reported ELSE 0 END
    ) OVER (PARTITION BY compared.start_time, compared.user_id, compared.measure) AS without_key
  FROM compared
  LEFT JOIN (SELECT DISTINCT start_time, api_key_id, user_id FROM visited) AS listings
    ON compared.start_time = listings.start_time
    AND compared.api_key_id = listings.api_key_id
    AND compared.user_id IS NOT DISTINCT FROM listings.user_id
)
SELECT
  of_the_user.start_time AS day,
  of_the_user.user_id,
  of_the_user.api_key_id,
  of_the_user.measure,
  CAST(of_the_user.reported AS BIGINT) AS reported,
  CAST(of_the_user.observed AS BIGINT) AS observed,
  CAST(of_the_user.difference AS BIGINT) AS difference,
  CASE
    WHEN of_the_user.visited = 0 THEN 'not derivable'
    WHEN of_the_user.difference > 0 AND of_the_user.missing <= of_the_user.without_key
      THEN 'not derivable'
    WHEN of_the_user.difference = 0 THEN 'match'
    WHEN final_metered_days.start_time IS NULL THEN 'late'
    ELSE 'unexplained'
  END AS class
FROM of_the_user
LEFT JOIN final_metered_days ON of_the_user.start_time = final_metered_days.start_time
ORDER BY
  of_the_user.start_time,
  of_the_user.user_id NULLS FIRST,
  of_the_user.api_key_id NULLS FIRST,
  of_the_user.measure
