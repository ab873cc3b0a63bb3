-- tokens_rollup: tokens of an hour or a day, by user, key and model, from narrower buckets.
-- grain: bucket x user_id x api_key_id x model; times are UTC, null is a group of its own
-- inputs: narrower (tokens_1m or tokens_1h)
-- parameters: seconds (of a bucket: 3600 or 86400)
-- As in rollup, buckets are numbered by integer arithmetic on epoch seconds.
SELECT
  to_timestamp(bucket * $seconds) AS start_time,
  to_timestamp(bucket * $seconds + $seconds) AS end_time,
  user_id,
  api_key_id,
  model,
  num_responses,
  num_failed,
  input_tokens,
  cached_tokens,
  output_tokens,
  reasoning_tokens,
  total_tokens
FROM (
  SELECT
    CAST(epoch(start_time) AS BIGINT) // $seconds AS bucket,
    user_id,
    api_key_id,
    model,
    CAST(SUM(num_responses) AS BIGINT) AS num_responses,
    CAST(SUM(num_failed) AS BIGINT) AS num_failed,
    CAST(SUM(input_tokens) AS BIGINT) AS input_tokens,
    CAST(SUM(cached_tokens) AS BIGINT) AS cached_tokens,
    CAST(SUM(output_tokens) AS BIGINT) AS output_tokens,
    CAST(SUM(reasoning_tokens) AS BIGINT) AS reasoning_tokens,
    CAST(SUM(total_tokens) AS BIGINT) AS total_tokens
  FROM narrower
  GROUP BY 1, user_id, api_key_id, model
) AS buckets
ORDER BY bucket, user_id NULLS FIRST, api_key_id NULLS FIRST, model NULLS FIRST
