-- member_names: the users, or the keys, that have usage or a line in the file of names.
-- grain: id
-- inputs: usage_1h, names (kind, id, name, team_id: what people wrote)
-- parameters: kind (user or key)
-- No two have the same name: who would have another's, or another's id, has the own id beside it.
-- That two still have the same then takes names made for it; these are numbered.
WITH known AS (
  SELECT CASE $kind WHEN 'user' THEN user_id ELSE api_key_id END AS id
  FROM usage_1h
  UNION
  SELECT id
  FROM names
  WHERE kind = $kind
),

labelled AS (
  SELECT
    known.id,
    COALESCE(called.name, known.id) AS name,
    called.team_id,
    COUNT(*) OVER (PARTITION BY COALESCE(called.name, known.id)) AS num_same
  FROM known
  LEFT JOIN names AS called
    ON called.kind = $kind AND known.id = called.id
  WHERE known.id IS NOT NULL
),

told_apart AS (
  SELECT
    id,
    CASE WHEN num_same > 1 THEN name || ' (' || id || ')' ELSE name END AS name,
    team_id
  FROM labelled
),

numbered AS (
  SELECT
    id,
    name,
    team_id,
    ROW_NUMBER() OVER (PARTITION BY name ORDER BY id NULLS FIRST) AS place
  FROM told_apart
)

SELECT
  id,
  CASE WHEN place > 1 THEN name || ' ' || CAST(place AS STRING) ELSE name END AS name,
  team_id
FROM numbered
ORDER BY id NULLS FIRST
