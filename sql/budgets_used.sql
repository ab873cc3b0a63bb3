-- budgets_used: how much of each budget is used.
-- grain: budget, by its number
-- inputs: amounts (start_time, end_time: the part of a period that is counted; user_id, api_key_id, team_id,
--   amount: null where it is unknown, num_unknown: how many have an unknown one), asked (number,
--   start_time, end_time, scope: user, key, team or all, id: empty for all)
-- used is null where nothing is known: nothing was used, or of all that was, the amount is unknown.
WITH of_scopes AS (
  SELECT start_time, end_time, 'all' AS scope, '' AS id, amount, num_unknown
  FROM amounts
  UNION ALL
  SELECT start_time, end_time, 'user', user_id, amount, num_unknown
  FROM amounts
  UNION ALL
  SELECT start_time, end_time, 'key', api_key_id, amount, num_unknown
  FROM amounts
  UNION ALL
  SELECT start_time, end_time, 'team', team_id, amount, num_unknown
  FROM amounts
)

SELECT
  asked.number,
  CAST(SUM(of_scopes.amount) AS DECIMAL(38, 15)) AS used,
  CAST(SUM(of_scopes.num_unknown) AS BIGINT) AS num_unknown
FROM asked
INNER JOIN of_scopes
  ON asked.start_time = of_scopes.start_time
  AND asked.end_time = of_scopes.end_time
  AND asked.scope = of_scopes.scope
  AND asked.id = of_scopes.id
GROUP BY asked.number
ORDER BY asked.number NULLS FIRST
