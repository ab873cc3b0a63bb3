-- meters_1m: what the usage endpoints report, by minute, user, key, model and measure.
-- grain: endpoint x 1m bucket x user_id x api_key_id x model x measure; null is a group of its own
-- inputs: raw_meters
-- Several reported rows for one group in a bucket (other dimensions) are summed.
SELECT
  endpoint,
  start_time,
  end_time,
  user_id,
  api_key_id,
  model,
  measure,
  CAST(SUM(value) AS BIGINT) AS value
FROM raw_meters
GROUP BY endpoint, start_time, end_time, user_id, api_key_id, model, measure
ORDER BY
  endpoint,
  start_time,
  user_id NULLS FIRST,
  api_key_id NULLS FIRST,
  model NULLS FIRST,
  measure
