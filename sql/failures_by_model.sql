-- failures_by_model: how many responses of each model failed, by bucket.
-- grain: bucket x model; null is a group of its own; no row where a model has no response
-- inputs: tokens (bucket x user x key x model)
SELECT
  start_time,
  end_time,
  model,
  num_responses,
  num_failed,
  ROUND(1e2 * num_failed / num_responses, 1) AS percent_failed
FROM (
  SELECT
    start_time,
    end_time,
    model,
    CAST(SUM(num_responses) AS BIGINT) AS num_responses,
    CAST(SUM(num_failed) AS BIGINT) AS num_failed
  FROM tokens
  GROUP BY start_time, end_time, model
) AS counted
WHERE num_responses > 0
ORDER BY start_time NULLS FIRST, num_failed DESC NULLS LAST, model NULLS FIRST
