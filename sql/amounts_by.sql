-- amounts_by: what users, keys and teams come to in spans of time, which may overlap.
-- grain: span x user_id x api_key_id x team_id; null is a group of its own, of all users, and of all
--   teams, that are not asked for
-- inputs: amount_rows (start_time, user_id, api_key_id, amount: null where it is unknown, num_unknown:
--   how many have an unknown one), edges (start_time, end_time: few spans), asked (scope, id: users
--   that are asked for have the scope user, teams the scope team), names (kind, id, team_id: what
--   people wrote)
-- Usage is of the team of its user; where that has none, of the team of its key.
-- By the minute first, so that few rows are held against the spans, however many users there are.
SELECT
  edges.start_time,
  edges.end_time,
  minutes.user_id,
  minutes.api_key_id,
  minutes.team_id,
  CAST(SUM(minutes.amount) AS DECIMAL(38, 15)) AS amount,
  CAST(SUM(minutes.num_unknown) AS BIGINT) AS num_unknown
FROM (
  SELECT
    amount_rows.start_time,
    wanted.id AS user_id,
    amount_rows.api_key_id,
    teams.id AS team_id,
    CAST(SUM(amount_rows.amount) AS DECIMAL(38, 15)) AS amount,
    SUM(amount_rows.num_unknown) AS num_unknown
  FROM amount_rows
  LEFT JOIN (SELECT DISTINCT id FROM asked WHERE scope = 'user') AS wanted
    ON amount_rows.user_id = wanted.id
  LEFT JOIN names AS users
    ON users.kind = 'user' AND amount_rows.user_id = users.id
  LEFT JOIN names AS api_keys
    ON api_keys.kind = 'key' AND amount_rows.api_key_id = api_keys.id
  LEFT JOIN (SELECT DISTINCT id FROM asked WHERE scope = 'team') AS teams
    ON COALESCE(users.team_id, api_keys.team_id) = teams.id
  GROUP BY amount_rows.start_time, wanted.id, amount_rows.api_key_id, teams.id
) AS minutes
INNER JOIN edges
  ON minutes.start_time >= edges.start_time AND minutes.start_time < edges.end_time
GROUP BY
  edges.start_time, edges.end_time, minutes.user_id, minutes.api_key_id, minutes.team_id
ORDER BY
  edges.start_time NULLS FIRST,
  edges.end_time NULLS FIRST,
  minutes.user_id NULLS FIRST,
  minutes.api_key_id NULLS FIRST,
  minutes.team_id NULLS FIRST
