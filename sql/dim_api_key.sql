-- dim_api_key: the API keys that have usage, and one row for no key.
-- grain: api_key_id; null is a group of its own, with the number 0; times are UTC
-- inputs: api_keys (api_key_id, api_key_key, api_key_name), usage_1h
SELECT
  api_keys.api_key_key,
  api_keys.api_key_id,
  api_keys.api_key_name,
  seen.first_seen,
  seen.last_seen,
  DATE '1970-01-01' + CAST(CAST(epoch(seen.first_seen) AS BIGINT) // 86400 AS INTEGER)
    AS first_seen_date,
  DATE '1970-01-01' + CAST(CAST(epoch(seen.last_hour) AS BIGINT) // 86400 AS INTEGER)
    AS last_seen_date
FROM api_keys
LEFT JOIN (
  SELECT
    api_key_id,
    MIN(start_time) AS first_seen,
    MAX(end_time) AS last_seen,
    MAX(start_time) AS last_hour
  FROM usage_1h
  GROUP BY api_key_id
) AS seen
  ON api_keys.api_key_id IS NOT DISTINCT FROM seen.api_key_id
ORDER BY api_keys.api_key_key
