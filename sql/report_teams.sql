-- report_teams: usage of a report's two periods by team.
-- grain: period x team_id; null is usage of nobody who is in a team
-- inputs: report_rows (what the query of that name gives), names (kind, id, team_id: what people wrote)
-- Usage is of the team of its user; where that has none, of the team of its key.
-- paired_operations are of the days that are compared alone. A measure that no row reports stays NULL.
SELECT
  report_rows.period,
  COALESCE(users.team_id, api_keys.team_id) AS team_id,
  CAST(SUM(report_rows.conversations) AS BIGINT) AS conversations,
  CAST(SUM(report_rows.items) AS BIGINT) AS items,
  CAST(SUM(report_rows.operations) AS BIGINT) AS operations,
  CAST(SUM(CASE WHEN report_rows.paired THEN report_rows.operations END) AS BIGINT)
    AS paired_operations
FROM report_rows
LEFT JOIN names AS users
  ON users.kind = 'user' AND report_rows.user_id = users.id
LEFT JOIN names AS api_keys
  ON api_keys.kind = 'key' AND report_rows.api_key_id = api_keys.id
GROUP BY 1, 2
