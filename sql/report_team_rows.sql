-- report_team_rows: the rows of a table that are of one team.
-- grain: as every_row
-- inputs: every_row (a table with user_id and api_key_id), asked (team_id: one row), names (kind, id,
--   team_id: what people wrote)
-- Usage is of the team of its user; where that has none, of the team of its key.
-- Few of the names are of one team: to join all of them to each row would take twice as long.
SELECT of_team.*
FROM (
  SELECT every_row.*
  FROM every_row
  WHERE
    EXISTS (
      SELECT 1
      FROM names AS users
      INNER JOIN asked
        ON users.team_id = asked.team_id
      WHERE users.kind = 'user' AND users.id = every_row.user_id
    )
  UNION ALL
  SELECT every_row.*
  FROM every_row
  WHERE
    EXISTS (
      SELECT 1
      FROM names AS api_keys
      INNER JOIN asked
        ON api_keys.team_id = asked.team_id
      WHERE api_keys.kind = 'key' AND api_keys.id = every_row.api_key_id
    )
    AND NOT EXISTS (
      SELECT 1
      FROM names AS users
      WHERE
        users.kind = 'user' AND users.team_id IS NOT NULL AND users.id = every_row.user_id
    )
) AS of_team
