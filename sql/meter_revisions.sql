-- meter_revisions: what the API has restated of an endpoint's minutes, added to what was before.
-- grain: endpoint x 1m bucket x user_id x api_key_id x model x measure x time it was seen
-- inputs: before and after (meters_1m, as it stood and as it is to stand), revisions_before
-- parameters: endpoint, known_through (Unix seconds: through when both are loaded of it), seen_at (a
--   timestamp)
-- NULL stands for a row that is not there. A minute that one of them has not been loaded through is no
-- restatement.
WITH changed AS (
  SELECT
    COALESCE(before.endpoint, after.endpoint) AS endpoint,
    COALESCE(before.start_time, after.start_time) AS start_time,
    COALESCE(before.end_time, after.end_time) AS end_time,
    CASE WHEN before.start_time IS NULL THEN after.user_id ELSE before.user_id END AS user_id,
    CASE WHEN before.start_time IS NULL THEN after.api_key_id ELSE before.api_key_id END
      AS api_key_id,
    CASE WHEN before.start_time IS NULL THEN after.model ELSE before.model END AS model,
    COALESCE(before.measure, after.measure) AS measure,
    before.value AS old_value,
    after.value AS new_value,
    CAST($seen_at AS TIMESTAMPTZ) AS seen_at
  FROM before
  FULL JOIN after
    ON before.endpoint = after.endpoint
    AND before.start_time = after.start_time
    AND before.user_id IS NOT DISTINCT FROM after.user_id
    AND before.api_key_id IS NOT DISTINCT FROM after.api_key_id
    AND before.model IS NOT DISTINCT FROM after.model
    AND before.measure = after.measure
  WHERE before.value IS DISTINCT FROM after.value
), everything AS (
  SELECT endpoint, start_time, end_time, user_id, api_key_id, model, measure, old_value, new_value,
    seen_at
  FROM changed
  WHERE endpoint = $endpoint AND epoch(start_time) < $known_through
  UNION ALL
  SELECT endpoint, start_time, end_time, user_id, api_key_id, model, measure, old_value, new_value,
    seen_at
  FROM revisions_before
)
SELECT endpoint, start_time, end_time, user_id, api_key_id, model, measure, old_value, new_value,
  seen_at
FROM everything
ORDER BY
  endpoint,
  start_time,
  end_time,
  user_id NULLS FIRST,
  api_key_id NULLS FIRST,
  model NULLS FIRST,
  measure,
  old_value NULLS FIRST,
  new_value NULLS FIRST,
  seen_at
