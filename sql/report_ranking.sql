-- report_ranking: who uses most, by operations, and what the same came to in the period before.
-- grain: user, API key or team with usage in this period, the most active ones; null is a group of its
--   own
-- inputs: hours (what report_hours gives), members (what report_members gives), teams (what
--   report_teams gives)
-- parameters: kind (user, key or team), at_most (rows)
-- compared_operations and operations_before are of the days that are compared alone.
WITH used AS (
  SELECT user_id AS id, period, conversations, items, operations, paired_operations
  FROM members
  WHERE $kind = 'user'
  UNION ALL
  SELECT
    api_key_id,
    period,
    conversations,
    items,
    operations,
    CASE WHEN paired THEN operations END
  FROM hours
  WHERE $kind = 'key'
  UNION ALL
  SELECT team_id, period, conversations, items, operations, paired_operations
  FROM teams
  WHERE $kind = 'team'
)
SELECT
  id,
  CAST(SUM(CASE WHEN period = 'this' THEN conversations END) AS BIGINT) AS conversations,
  CAST(SUM(CASE WHEN period = 'this' THEN items END) AS BIGINT) AS items,
  CAST(SUM(CASE WHEN period = 'this' THEN operations END) AS BIGINT) AS operations,
  CAST(SUM(CASE WHEN period = 'this' THEN paired_operations END) AS BIGINT) AS compared_operations,
  CAST(SUM(CASE WHEN period = 'before' THEN paired_operations END) AS BIGINT) AS operations_before,
  COUNT(*) OVER () AS ids
FROM used
GROUP BY id
HAVING COUNT(CASE WHEN period = 'this' THEN 1 END) > 0
ORDER BY operations DESC NULLS LAST, items DESC NULLS LAST, id NULLS LAST
LIMIT $at_most
