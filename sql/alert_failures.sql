-- alert_failures: models whose responses fail far more often in a bucket than they usually do.
-- grain: model; null is a group of its own
-- inputs: counted (tokens_1h or tokens_1d), coverage
-- parameters: judged_start (epoch seconds, the bucket that is judged), days (how far the baseline
--   goes back), least_days (fewer are no baseline), times (failures are so many times the usual, or
--   successes the usual divided by it), least_percent and least_failed (less never alerts)
-- As in spikes, the baseline is cut into spans of 24 hours that end where the bucket starts, and one
-- with an hour that is not loaded is left out. The usual is the share of all responses of these spans.
-- A model that has responses in too few of them is held against that of all models together.
WITH buckets AS (
  SELECT
    model,
    CAST(FLOOR(epoch(start_time)) AS BIGINT) AS bucket_start,
    SUM(num_responses) AS responses,
    SUM(num_failed) AS failed
  FROM counted
  WHERE num_responses > 0
  GROUP BY 1, 2
), spans AS (
  SELECT ($judged_start - 1 - hour_start) // 86400 AS span
  FROM (
    SELECT CAST(FLOOR(epoch(start_time)) AS BIGINT) AS hour_start
    FROM coverage
    WHERE dataset = 'tokens_1h' AND status <> 'missing' AND complete_through >= end_time
  ) AS whole_hours
  WHERE hour_start >= $judged_start - $days * 86400 AND hour_start < $judged_start
  GROUP BY 1
  HAVING COUNT(*) = 24
), before AS (
  SELECT
    buckets.model,
    SUM(buckets.responses) AS responses,
    SUM(buckets.failed) AS failed,
    COUNT(DISTINCT spans.span) AS seen_on
  FROM buckets
  INNER JOIN spans ON ($judged_start - 1 - buckets.bucket_start) // 86400 = spans.span
  WHERE buckets.bucket_start < $judged_start
  GROUP BY buckets.model
), everyone AS (
  SELECT
    COALESCE(SUM(responses), 0) AS responses,
    COALESCE(SUM(failed), 0) AS failed
  FROM before
), extent AS (
  SELECT COUNT(*) AS num_spans FROM spans
), compared AS (
  SELECT
    buckets.model,
    buckets.responses,
    buckets.failed,
    CASE WHEN before.seen_on >= $least_days THEN before.responses ELSE everyone.responses END
      AS usual_responses,
    CASE WHEN before.seen_on >= $least_days THEN before.failed ELSE everyone.failed END
      AS usual_failed,
    COALESCE(before.seen_on, 0) >= $least_days AS has_usual,
    extent.num_spans
  FROM buckets
  CROSS JOIN everyone
  CROSS JOIN extent
  LEFT JOIN before ON buckets.model IS NOT DISTINCT FROM before.model
  WHERE buckets.bucket_start = $judged_start
    AND extent.num_spans >= $least_days
    AND buckets.failed >= $least_failed
    AND 1e2 * buckets.failed >= $least_percent * buckets.responses
)
SELECT
  model,
  CAST(responses AS BIGINT) AS responses,
  CAST(failed AS BIGINT) AS failed,
  CAST(usual_responses AS BIGINT) AS usual_responses,
  CAST(usual_failed AS BIGINT) AS usual_failed,
  has_usual,
  CAST(num_spans AS BIGINT) AS num_spans
FROM compared
WHERE usual_responses > 0
  AND 1e0 * failed * usual_responses > 1e0 * usual_failed * responses
  AND (
    1e0 * failed * usual_responses >= $times * usual_failed * responses
    OR $times * (responses - failed) * usual_responses
    <= 1e0 * (usual_responses - usual_failed) * responses
  )
ORDER BY failed DESC NULLS LAST, model NULLS FIRST
