-- tokens_1m: what responses come to, by minute, user, key and model.
-- grain: 1m bucket x user_id x api_key_id x model; times are UTC, null is a group of its own
-- inputs: responses (of the days), extents (day_number since 1970, through: epoch seconds; what came
--   later on that day is not counted)
-- A response counts in the minute of its created_at. A sum is null where no response of the bucket
-- reports the number: SUM passes over null, and not reported is not zero.
SELECT
  to_timestamp(bucket * 60) AS start_time,
  to_timestamp(bucket * 60 + 60) AS end_time,
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
    CAST(FLOOR(epoch(responses.created_at)) AS BIGINT) // 60 AS bucket,
    responses.user_id,
    responses.api_key_id,
    responses.model,
    COUNT(*) AS num_responses,
    CAST(SUM(CASE WHEN responses.status IN ('failed', 'incomplete') THEN 1 ELSE 0 END) AS BIGINT)
      AS num_failed,
    CAST(SUM(responses.input_tokens) AS BIGINT) AS input_tokens,
    CAST(SUM(responses.cached_tokens) AS BIGINT) AS cached_tokens,
    CAST(SUM(responses.output_tokens) AS BIGINT) AS output_tokens,
    CAST(SUM(responses.reasoning_tokens) AS BIGINT) AS reasoning_tokens,
    CAST(SUM(responses.total_tokens) AS BIGINT) AS total_tokens
  FROM responses
  INNER JOIN extents
    ON CAST(FLOOR(epoch(responses.created_at)) AS BIGINT) // 86400 = extents.day_number
  WHERE responses.created_at < to_timestamp(extents.through)
  GROUP BY 1, responses.user_id, responses.api_key_id, responses.model
) AS buckets
ORDER BY bucket, user_id NULLS FIRST, api_key_id NULLS FIRST, model NULLS FIRST
