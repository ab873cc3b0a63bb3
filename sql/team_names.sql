-- team_names: the teams and cost centres that have a line in the file of names, or somebody in them.
-- grain: id
-- inputs: names (kind, id, name, team_id: what people wrote)
-- No two have the same name: what would have another's, or another's id, has the own id beside it.
WITH known AS (
  SELECT id
  FROM names
  WHERE kind = 'team' OR kind = 'cost_centre'
  UNION
  SELECT team_id
  FROM names
  WHERE team_id IS NOT NULL
),

labelled AS (
  SELECT
    known.id,
    COALESCE(called.name, known.id) AS name,
    COALESCE(called.kind, 'team') AS kind,
    COUNT(*) OVER (PARTITION BY COALESCE(called.name, known.id)) AS num_same
  FROM known
  LEFT JOIN names AS called
    ON (called.kind = 'team' OR called.kind = 'cost_centre') AND known.id = called.id
)

SELECT
  id,
  CASE WHEN num_same > 1 THEN name || ' (' || id || ')' ELSE name END AS name,
  kind
FROM labelled
ORDER BY id NULLS FIRST
