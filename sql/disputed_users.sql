-- disputed_users: conversations or responses that were listed for more than one user.
-- grain: id; whose it is cannot be told any more, so its user stays NULL
-- inputs: seen (seen_conversations or seen_responses), landed (the days' conversations or
--   responses), disputed (id; those that were disputed before)
SELECT id
FROM (
  SELECT id, user_id, 0 AS disputed
  FROM seen
  UNION ALL
  SELECT
    landed.id,
    landed.user_id,
    CASE WHEN disputed.id IS NULL THEN 0 ELSE 1 END
  FROM landed
  LEFT JOIN disputed ON landed.id = disputed.id
) AS sights
GROUP BY id
HAVING MAX(disputed) = 1 OR MIN(user_id) <> MAX(user_id)
ORDER BY id
