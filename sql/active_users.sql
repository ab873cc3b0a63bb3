-- active_users: how many users were active in each bucket, and how many of them for the first time.
-- grain: bucket; usage without a user is nobody's; NULL where nothing of the bucket is loaded
-- inputs: usage (bucket x user x key, from the first day that is loaded on), buckets (start_time,
--   end_time, is_complete)
SELECT
  buckets.start_time,
  buckets.end_time,
  CASE
    WHEN buckets.is_complete OR COUNT(active.user_id) > 0 THEN COUNT(active.user_id)
  END AS active_users,
  CASE
    WHEN buckets.is_complete OR COUNT(active.user_id) > 0
      THEN COUNT(CASE WHEN active.start_time = active.first_time THEN active.user_id END)
  END AS new_users,
  buckets.is_complete
FROM buckets
LEFT JOIN (
  SELECT
    user_id,
    start_time,
    MIN(start_time) OVER (PARTITION BY user_id) AS first_time
  FROM usage
  WHERE user_id IS NOT NULL
  GROUP BY user_id, start_time
) AS active
  ON buckets.start_time = active.start_time
GROUP BY buckets.start_time, buckets.end_time, buckets.is_complete
ORDER BY buckets.start_time NULLS FIRST
