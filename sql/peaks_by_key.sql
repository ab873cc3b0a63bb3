-- peaks_by_key: the busiest minute of each key in each bucket, and what it did then.
-- grain: bucket x api_key_id; null is a group of its own; no row where a key has no usage
-- inputs: usage_rows (usage by the minute), edges (start_time, end_time; what bucket_edges gives)
-- All users of a key together. Of minutes that are equally busy it is the first.
WITH minutes AS (
  SELECT
    start_time,
    api_key_id,
    CAST(SUM(num_operations) AS BIGINT) AS num_operations
  FROM usage_rows
  GROUP BY start_time, api_key_id
),

ranked AS (
  SELECT
    buckets.start_time,
    buckets.end_time,
    minutes.api_key_id,
    minutes.num_operations AS peak_operations,
    minutes.start_time AS peak_start,
    ROW_NUMBER() OVER (
      PARTITION BY buckets.start_time, minutes.api_key_id
      ORDER BY minutes.num_operations DESC NULLS LAST, minutes.start_time NULLS FIRST
    ) AS place
  FROM minutes
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
    ON CAST(epoch(minutes.start_time) AS BIGINT) = buckets.bucket_minute
)

SELECT
  start_time,
  end_time,
  api_key_id,
  peak_operations,
  peak_start
FROM ranked
WHERE place = 1
ORDER BY start_time NULLS FIRST, peak_operations DESC NULLS LAST, api_key_id NULLS FIRST
