-- team_of_usage: usage by bucket and team.
-- grain: bucket x team_id; null is usage of nobody who is in a team
-- inputs: usage (bucket x user x key), names (kind, id, team_id: what people wrote)
-- Usage is of the team of its user; where that has none, of the team of its key.
SELECT
  usage.start_time,
  usage.end_time,
  COALESCE(users.team_id, api_keys.team_id) AS team_id,
  CAST(SUM(usage.num_conversations_created) AS BIGINT) AS num_conversations_created,
  CAST(SUM(usage.num_items_added) AS BIGINT) AS num_items_added,
  CAST(SUM(usage.num_operations) AS BIGINT) AS num_operations
FROM usage
LEFT JOIN names AS users
  ON users.kind = 'user' AND usage.user_id = users.id
LEFT JOIN names AS api_keys
  ON api_keys.kind = 'key' AND usage.api_key_id = api_keys.id
GROUP BY usage.start_time, usage.end_time, 3
ORDER BY usage.start_time NULLS FIRST, team_id NULLS FIRST
