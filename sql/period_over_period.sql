-- period_over_period: each measure of each bucket beside that of the bucket before.
-- grain: bucket x measure; value is NULL where nothing of the bucket is loaded
-- inputs: usage (bucket x user x key), buckets (start_time, end_time, is_complete)
-- Nothing is compared with a bucket before that is not loaded whole: previous is NULL then, as are
-- the difference and the percentage.
WITH totals AS (
  SELECT
    start_time,
    CAST(SUM(num_conversations_created) AS BIGINT) AS num_conversations_created,
    CAST(SUM(num_items_added) AS BIGINT) AS num_items_added,
    CAST(SUM(num_operations) AS BIGINT) AS num_operations
  FROM usage
  GROUP BY start_time
),

wide AS (
  SELECT
    buckets.start_time,
    buckets.end_time,
    buckets.is_complete,
    CASE WHEN buckets.is_complete THEN 0 END AS nothing,
    totals.num_conversations_created,
    totals.num_items_added,
    totals.num_operations
  FROM buckets
  LEFT JOIN totals
    ON buckets.start_time = totals.start_time
),

measures AS (
  SELECT
    start_time,
    end_time,
    'num_conversations_created' AS measure,
    COALESCE(num_conversations_created, nothing) AS counted,
    is_complete
  FROM wide
  UNION ALL
  SELECT
    start_time,
    end_time,
    'num_items_added' AS measure,
    COALESCE(num_items_added, nothing) AS counted,
    is_complete
  FROM wide
  UNION ALL
  SELECT
    start_time,
    end_time,
    'num_operations' AS measure,
    COALESCE(num_operations, nothing) AS counted,
    is_complete
  FROM wide
),

beside AS (
  SELECT
    start_time,
    end_time,
    measure,
    counted,
    LAG(CASE WHEN is_complete THEN counted END)
      OVER (PARTITION BY measure ORDER BY start_time NULLS FIRST) AS previous,
    is_complete
  FROM measures
)

SELECT
  start_time,
  end_time,
  measure,
  counted AS "value",
  previous,
  counted - previous AS difference,
  CASE WHEN previous > 0 THEN ROUND(1e2 * (counted - previous) / previous, 1) END AS percent_change,
  is_complete
FROM beside
ORDER BY start_time NULLS FIRST, measure NULLS FIRST
