-- dim_member: the users or the API keys that have usage, and one row for none.
-- grain: id; null is a group of its own, with the number 0; times are UTC
-- inputs: members (id, number, name), usage_1h
-- parameters: by (user_id or api_key_id)
SELECT
  members.number,
  members.id,
  members.name,
  seen.first_seen,
  seen.last_seen,
  DATE '1970-01-01' + CAST(CAST(epoch(seen.first_seen) AS BIGINT) // 86400 AS INTEGER)
    AS first_seen_date,
  DATE '1970-01-01' + CAST((CAST(epoch(seen.last_seen) AS BIGINT) - 1) // 86400 AS INTEGER)
    AS last_seen_date
FROM members
LEFT JOIN (
  SELECT
    CASE $by WHEN 'user_id' THEN user_id ELSE api_key_id END AS id,
    MIN(start_time) AS first_seen,
    MAX(end_time) AS last_seen
  FROM usage_1h
  GROUP BY 1
) AS seen
  ON members.id IS NOT DISTINCT FROM seen.id
ORDER BY members.number
