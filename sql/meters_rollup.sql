-- meters_rollup: meters of an hour or a day, from narrower buckets.
-- grain: endpoint x bucket x user_id x api_key_id x model x measure; null is a group of its own
-- inputs: narrower (meters_1m or meters_1h)
-- parameters: seconds (of a bucket: 3600 or 86400)
-- As in rollup, buckets are numbered by integer arithmetic on epoch seconds.
SELECT
  endpoint,
  to_timestamp(bucket * $seconds) AS start_time,
  to_timestamp(bucket * $seconds + $seconds) AS end_time,
  user_id,
  api_key_id,
  model,
  measure,
  value
FROM (
  SELECT
    endpoint,
    CAST(epoch(start_time) AS BIGINT) // $seconds AS bucket,
    user_id,
    api_key_id,
    model,
    measure,
    CAST(SUM(value) AS BIGINT) AS value
  FROM narrower
  GROUP BY endpoint, 2, user_id, api_key_id, model, measure
) AS buckets
ORDER BY
  endpoint,
  bucket,
  user_id NULLS FIRST,
  api_key_id NULLS FIRST,
  model NULLS FIRST,
  measure
