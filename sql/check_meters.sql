-- check_meters: rows of a table of meters that are not the sums of the rows of a finer one.
-- grain: endpoint x bucket of the coarser table x group, only where they differ; no row is a pass
-- inputs: finer, coarser (tables of meters; raw_meters counts as one)
-- parameters: width (seconds of a bucket of the coarser table)
WITH summed AS (
  SELECT
    endpoint,
    CAST(FLOOR(epoch(start_time)) AS BIGINT) // $width AS bucket,
    user_id,
    api_key_id,
    model,
    measure,
    SUM(value) AS value
  FROM finer
  GROUP BY endpoint, 2, user_id, api_key_id, model, measure
), stated AS (
  SELECT
    endpoint,
    CAST(FLOOR(epoch(start_time)) AS BIGINT) // $width AS bucket,
    user_id,
    api_key_id,
    model,
    measure,
    value
  FROM coarser
)
SELECT
  COALESCE(summed.endpoint, stated.endpoint) AS endpoint,
  to_timestamp(COALESCE(summed.bucket, stated.bucket) * $width) AS start_time,
  CASE WHEN stated.bucket IS NULL THEN summed.user_id ELSE stated.user_id END AS user_id,
  CASE WHEN stated.bucket IS NULL THEN summed.api_key_id ELSE stated.api_key_id END AS api_key_id,
  CASE WHEN stated.bucket IS NULL THEN summed.model ELSE stated.model END AS model,
  COALESCE(summed.measure, stated.measure) AS measure,
  stated.value,
  summed.value AS summed_value
FROM stated
FULL JOIN summed
  ON stated.endpoint = summed.endpoint
  AND stated.bucket = summed.bucket
  AND stated.user_id IS NOT DISTINCT FROM summed.user_id
  AND stated.api_key_id IS NOT DISTINCT FROM summed.api_key_id
  AND stated.model IS NOT DISTINCT FROM summed.model
  AND stated.measure = summed.measure
WHERE stated.value IS DISTINCT FROM summed.value
ORDER BY endpoint, start_time, user_id NULLS FIRST, api_key_id NULLS FIRST, model NULLS FIRST
LIMIT 20
