-- report_ranking: who uses most, by operations, and what the same came to in the period before.
-- grain: user or API key with usage in this period, the most active ones; null is a group of its own
-- inputs: hours (what report_hours gives)
-- parameters: by_user (boolean: users, else keys), at_most (rows)
-- compared_operations and operations_before are of the days that are compared alone.
SELECT
  CASE WHEN $by_user THEN user_id ELSE api_key_id END AS id,
  CAST(SUM(CASE WHEN period = 'this' THEN hours.conversations END) AS BIGINT) AS conversations,
  CAST(SUM(CASE WHEN period = 'this' THEN hours.items END) AS BIGINT) AS items,
  CAST(SUM(CASE WHEN period = 'this' THEN hours.operations END) AS BIGINT) AS operations,
  CAST(SUM(CASE WHEN period = 'this' AND paired THEN hours.operations END) AS BIGINT)
    AS compared_operations,
  CAST(SUM(CASE WHEN period = 'before' AND paired THEN hours.operations END) AS BIGINT)
    AS operations_before,
  COUNT(*) OVER () AS ids
FROM hours
GROUP BY 1
HAVING COUNT(CASE WHEN period = 'this' THEN 1 END) > 0
ORDER BY operations DESC NULLS LAST, items DESC NULLS LAST, id NULLS LAST
LIMIT $at_most
