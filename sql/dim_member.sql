-- dim_member: the users, the API keys or the models that facts have, and one row for none.
-- grain: id; null is a group of its own, with the number 0; times are UTC
-- inputs: members (id, number, name), usage_1h, tokens_1h
-- parameters: by (user_id, api_key_id or model)
-- Who is only billed, which is by the day, was seen in no hour: the times are NULL.
SELECT
  members.number,
  members.id,
  members.name,
  MIN(seen.start_time) AS first_seen,
  MAX(seen.end_time) AS last_seen,
  DATE '1970-01-01' + CAST(CAST(epoch(MIN(seen.start_time)) AS BIGINT) // 86400 AS INTEGER)
    AS first_seen_date,
  DATE '1970-01-01' + CAST(CAST(epoch(MAX(seen.start_time)) AS BIGINT) // 86400 AS INTEGER)
    AS last_seen_date
FROM members
LEFT JOIN (
  SELECT start_time, end_time, CASE $by WHEN 'user_id' THEN user_id ELSE api_key_id END AS id
  FROM usage_1h
  WHERE $by <> 'model'
  UNION ALL
  SELECT
    start_time,
    end_time,
    CASE $by WHEN 'user_id' THEN user_id WHEN 'api_key_id' THEN api_key_id ELSE model END
  FROM tokens_1h
) AS seen
  ON members.id IS NOT DISTINCT FROM seen.id
GROUP BY members.number, members.id, members.name
ORDER BY members.number
