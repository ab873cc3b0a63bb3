-- dim_user: the users that have usage, and one row for no user.
-- grain: user_id; null is a group of its own, with the number 0; times are UTC
-- inputs: users (user_id, user_key, user_name), usage_1h
SELECT
  users.user_key,
  users.user_id,
  users.user_name,
  seen.first_seen,
  seen.last_seen,
  DATE '1970-01-01' + CAST(CAST(epoch(seen.first_seen) AS BIGINT) // 86400 AS INTEGER)
    AS first_seen_date,
  DATE '1970-01-01' + CAST(CAST(epoch(seen.last_hour) AS BIGINT) // 86400 AS INTEGER)
    AS last_seen_date
FROM users
LEFT JOIN (
  SELECT
    user_id,
    MIN(start_time) AS first_seen,
    MAX(end_time) AS last_seen,
    MAX(start_time) AS last_hour
  FROM usage_1h
  GROUP BY user_id
) AS seen
  ON users.user_id IS NOT DISTINCT FROM seen.user_id
ORDER BY users.user_key
