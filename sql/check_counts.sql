-- check_counts: rows with a count below zero.
-- grain: as the table; no row is a pass
-- inputs: checked (raw_usage or a usage table)
SELECT
  start_time,
  user_id,
  api_key_id,
  num_conversations_created,
  num_items_added,
  num_operations
FROM checked
WHERE num_conversations_created < 0 OR num_items_added < 0 OR num_operations < 0
ORDER BY start_time
LIMIT 20
