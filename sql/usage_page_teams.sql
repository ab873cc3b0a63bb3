-- usage_page_teams: usage by bucket, team and any subset of user and key.
-- grain: bucket x the ids that are grouped by x team_id; an id that is not grouped by is NULL
-- inputs: usage (a usage table: the buckets and users that are asked for), names (kind, id, team_id:
--   what people wrote)
-- parameters: by_user, by_key (booleans)
-- Usage is of the team of its user; where that has none, of the team of its key.
SELECT
  CAST(epoch(usage.start_time) AS BIGINT) AS bucket_start,
  CASE WHEN $by_user THEN usage.user_id END AS group_user_id,
  CASE WHEN $by_key THEN usage.api_key_id END AS group_api_key_id,
  CAST(SUM(usage.num_conversations_created) AS BIGINT) AS num_conversations_created,
  CAST(SUM(usage.num_items_added) AS BIGINT) AS num_items_added,
  CAST(SUM(usage.num_operations) AS BIGINT) AS num_operations,
  COALESCE(users.team_id, api_keys.team_id) AS team_id
FROM usage
LEFT JOIN names AS users
  ON users.kind = 'user' AND usage.user_id = users.id
LEFT JOIN names AS api_keys
  ON api_keys.kind = 'key' AND usage.api_key_id = api_keys.id
GROUP BY 1, 2, 3, 7
ORDER BY 1, 7 NULLS FIRST, 2 NULLS FIRST, 3 NULLS FIRST
