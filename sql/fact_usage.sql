-- fact_usage: usage by hour, user and key, with the numbers that its dimensions are joined by.
-- grain: 1h bucket x user_id x api_key_id; times are UTC
-- inputs: usage_1h, coverage, users, api_keys and teams (id, number), names (kind, id,
--   team_id: what people wrote)
-- Usage is of the team of its user; where that has none, of the team of its key.
-- A join by NULL finds nothing, so no user and no key have the number 0. An hour is final where
-- coverage says so of usage_1h; where coverage says nothing, it is not.
-- The date is counted from epoch seconds: no session time zone has a say.
SELECT
  DATE '1970-01-01' + CAST(CAST(epoch(usage_1h.start_time) AS BIGINT) // 86400 AS INTEGER)
    AS "date",
  usage_1h.start_time,
  CAST(epoch(usage_1h.start_time) AS BIGINT) % 86400 // 3600 AS hour_of_day,
  COALESCE(users.number, 0) AS user_key,
  COALESCE(api_keys.number, 0) AS api_key_key,
  usage_1h.user_id,
  usage_1h.api_key_id,
  usage_1h.num_conversations_created,
  usage_1h.num_items_added,
  usage_1h.num_operations,
  COALESCE(teams.number, 0) AS team_key,
  coverage.start_time IS NOT NULL AS is_final
FROM usage_1h
LEFT JOIN users ON usage_1h.user_id = users.id
LEFT JOIN api_keys ON usage_1h.api_key_id = api_keys.id
LEFT JOIN names AS user_names
  ON user_names.kind = 'user' AND usage_1h.user_id = user_names.id
LEFT JOIN names AS key_names
  ON key_names.kind = 'key' AND usage_1h.api_key_id = key_names.id
LEFT JOIN teams ON COALESCE(user_names.team_id, key_names.team_id) = teams.id
LEFT JOIN coverage
  ON usage_1h.start_time = coverage.start_time
  AND coverage.dataset = 'usage_1h'
  AND coverage.status = 'final'
ORDER BY usage_1h.start_time, usage_1h.user_id NULLS FIRST, usage_1h.api_key_id NULLS FIRST
