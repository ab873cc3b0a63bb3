-- check_ids: ids that stand in a table more than once.
-- grain: id, only where it is not unique; no row is a pass
-- inputs: checked (id, and conversation_id: NULL but for items, whose ids are unique within one)
SELECT conversation_id, id, COUNT(*) AS times
FROM checked
GROUP BY conversation_id, id
HAVING COUNT(*) > 1
ORDER BY times DESC, conversation_id NULLS FIRST, id NULLS FIRST
LIMIT 20
