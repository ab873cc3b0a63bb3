-- tokens_by: tokens by bucket, user, key and model, for buckets of any width in any time zone.
-- grain: bucket x user_id x api_key_id x model; null is a group of its own
-- inputs: tokens_rows (a table of tokens whose buckets lie inside those asked for: minutes always
--   do), edges (start_time, end_time; what bucket_edges gives)
SELECT
  buckets.start_time,
  buckets.end_time,
  tokens_rows.user_id,
  tokens_rows.api_key_id,
  tokens_rows.model,
  CAST(SUM(tokens_rows.num_responses) AS BIGINT) AS num_responses,
  CAST(SUM(tokens_rows.num_failed) AS BIGINT) AS num_failed,
  CAST(SUM(tokens_rows.input_tokens) AS BIGINT) AS input_tokens,
  CAST(SUM(tokens_rows.cached_tokens) AS BIGINT) AS cached_tokens,
  CAST(SUM(tokens_rows.output_tokens) AS BIGINT) AS output_tokens,
  CAST(SUM(tokens_rows.reasoning_tokens) AS BIGINT) AS reasoning_tokens,
  CAST(SUM(tokens_rows.total_tokens) AS BIGINT) AS total_tokens
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
  tokens_rows.model
ORDER BY
  buckets.start_time,
  tokens_rows.user_id NULLS FIRST,
  tokens_rows.api_key_id NULLS FIRST,
  tokens_rows.model NULLS FIRST
