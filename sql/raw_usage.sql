-- raw_usage: what the API reports for a window, each bucket in its latest serving.
-- grain: bucket x result row as served; times are UTC
-- inputs: served_rows (the columns below and `serving`), servings (start_time, serving)
-- A bucket served twice: the later serving wins, whole, even when it holds no rows.
SELECT
  served_rows.start_time,
  served_rows.end_time,
  served_rows.user_id,
  served_rows.api_key_id,
  served_rows.num_conversations_created,
  served_rows.num_items_added,
  served_rows.num_operations,
  served_rows.extra,
  served_rows.fetched_at
FROM served_rows
INNER JOIN (
  SELECT start_time, MAX(serving) AS serving
  FROM servings
  GROUP BY start_time
) AS latest
  ON served_rows.start_time = latest.start_time AND served_rows.serving = latest.serving
ORDER BY
  start_time,
  user_id NULLS FIRST,
  api_key_id NULLS FIRST,
  num_conversations_created NULLS FIRST,
  num_items_added NULLS FIRST,
  num_operations NULLS FIRST,
  extra NULLS FIRST,
  fetched_at
