-- metered_tokens: tokens as the usage endpoints report them, in the shape of a table of tokens.
-- grain: endpoint x bucket x user_id x api_key_id x model; null is a group of its own
-- inputs: meters (a table of meters)
-- What an endpoint does not report is null; the API leaves the names of measures open, so either of
-- two is taken. Only what models read and write has a price by the token.
SELECT
  endpoint,
  start_time,
  end_time,
  user_id,
  api_key_id,
  model,
  CAST(
    COALESCE(
      SUM(CASE WHEN measure = 'num_model_requests' THEN value END),
      SUM(CASE WHEN measure = 'num_requests' THEN value END)
    ) AS BIGINT
  ) AS num_responses,
  CAST(SUM(CASE WHEN measure = 'input_tokens' THEN value END) AS BIGINT) AS input_tokens,
  CAST(
    COALESCE(
      SUM(CASE WHEN measure = 'input_cached_tokens' THEN value END),
      SUM(CASE WHEN measure = 'cached_tokens' THEN value END)
    ) AS BIGINT
  ) AS cached_tokens,
  CAST(SUM(CASE WHEN measure = 'output_tokens' THEN value END) AS BIGINT) AS output_tokens,
  CAST(
    COALESCE(
      SUM(CASE WHEN measure = 'output_reasoning_tokens' THEN value END),
      SUM(CASE WHEN measure = 'reasoning_tokens' THEN value END)
    ) AS BIGINT
  ) AS reasoning_tokens
FROM meters
WHERE endpoint IN ('completions', 'responses', 'embeddings')
  AND measure IN (
    'num_model_requests',
    'num_requests',
    'input_tokens',
    'input_cached_tokens',
    'cached_tokens',
    'output_tokens',
    'output_reasoning_tokens',
    'reasoning_tokens'
  )
GROUP BY endpoint, start_time, end_time, user_id, api_key_id, model
ORDER BY
  endpoint NULLS FIRST,
  start_time NULLS FIRST,
  user_id NULLS FIRST,
  api_key_id NULLS FIRST,
  model NULLS FIRST
