-- report_choices: users, API keys and models of some days, to choose from.
-- grain: kind (user, key or model) x id, the most active of each kind first; null is left out
-- inputs: usage_rows (usage of the days), tokens_rows (tokens of the days)
-- parameters: at_most (rows of a kind)
WITH used AS (
  SELECT 'user' AS kind, user_id AS id, num_operations AS used FROM usage_rows
  UNION ALL
  SELECT 'key' AS kind, api_key_id AS id, num_operations AS used FROM usage_rows
  UNION ALL
  SELECT 'model' AS kind, model AS id, num_responses AS used FROM tokens_rows
), ranked AS (
  SELECT
    kind,
    id,
    ROW_NUMBER() OVER (PARTITION BY kind ORDER BY SUM(used) DESC NULLS LAST, id) AS place
  FROM used
  WHERE id IS NOT NULL
  GROUP BY kind, id
)
SELECT kind, id
FROM ranked
WHERE place <= $at_most
ORDER BY kind, place
