-- growth_by_user: each user's operations of a bucket beside those of the bucket before.
-- grain: bucket x user_id, of buckets that are loaded whole, as is the one before; null is a group
--   of its own; no row where a user has no usage in the bucket
-- inputs: usage (bucket x user x key, from the first day that is loaded on), buckets (start_time,
--   end_time, is_complete)
-- No usage in a bucket that is loaded is 0; growth from there has no percentage. A count that the
-- API left out is NULL, and so is what would be computed from it.
WITH pairs AS (
  SELECT
    start_time,
    end_time,
    is_complete,
    LAG(start_time) OVER (ORDER BY start_time NULLS FIRST) AS previous_start,
    LAG(is_complete) OVER (ORDER BY start_time NULLS FIRST) AS previous_is_complete
  FROM buckets
),

used AS (
  SELECT
    start_time,
    user_id,
    CAST(SUM(num_operations) AS BIGINT) AS num_operations
  FROM usage
  GROUP BY start_time, user_id
),

firsts AS (
  SELECT user_id, MIN(start_time) AS first_time
  FROM used
  GROUP BY user_id
)

SELECT
  start_time,
  end_time,
  user_id,
  num_operations,
  previous,
  num_operations - previous AS difference,
  CASE WHEN previous > 0 THEN ROUND(1e2 * (num_operations - previous) / previous, 1) END
    AS percent_change,
  is_new
FROM (
  SELECT
    pairs.start_time,
    pairs.end_time,
    used.user_id,
    used.num_operations,
    CASE WHEN before.start_time IS NULL THEN 0 ELSE before.num_operations END AS previous,
    firsts.first_time = pairs.start_time AS is_new
  FROM pairs
  INNER JOIN used ON pairs.start_time = used.start_time
  INNER JOIN firsts ON used.user_id IS NOT DISTINCT FROM firsts.user_id
  LEFT JOIN used AS before
    ON pairs.previous_start = before.start_time
    AND used.user_id IS NOT DISTINCT FROM before.user_id
  WHERE pairs.is_complete AND pairs.previous_is_complete
) AS beside
ORDER BY start_time NULLS FIRST, difference DESC NULLS LAST, user_id NULLS FIRST
