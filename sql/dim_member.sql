-- dim_member: the users or the API keys that have usage, and one row for none.
-- grain: id; null is a group of its own, with the number 0; times are UTC
-- inputs: members (id, number, name), usage_1h
-- parameters: by (user_id or api_key_id)
SELECT
  members.number,
  members.id,
  members.name,
  MIN(start_time) AS first_seen,
  MAX(end_time) AS last_seen,
  DATE '1970-01-01' + CAST(CAST(epoch(MIN(start_time)) AS BIGINT) // 86400 AS INTEGER)
    AS first_seen_date,
  DATE '1970-01-01' + CAST(CAST(epoch(MAX(start_time)) AS BIGINT) // 86400 AS INTEGER)
    AS last_seen_date
FROM members
LEFT JOIN usage_1h
  ON members.id IS NOT DISTINCT FROM CASE $by WHEN 'user_id' THEN user_id ELSE api_key_id END
GROUP BY members.number, members.id, members.name
ORDER BY members.number
