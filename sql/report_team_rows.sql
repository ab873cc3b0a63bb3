-- report_team_rows: the rows of a table that are of one team.
-- grain: as every_row
-- inputs: every_row (a table with user_id and api_key_id), asked (team_id: one row), names (kind, id,
--   team_id: what people wrote)
-- Usage is of the team of its user; where that has none, of the team of its key.
SELECT every_row.*
FROM every_row
LEFT JOIN names AS users
  ON users.kind = 'user' AND every_row.user_id = users.id
LEFT JOIN names AS api_keys
  ON api_keys.kind = 'key' AND every_row.api_key_id = api_keys.id
INNER JOIN asked
  ON COALESCE(users.team_id, api_keys.team_id) = asked.team_id
