-- raw_meters: what an endpoint reports for a window, beside what is stored of the others.
-- grain: endpoint x bucket x result row as served x measure; times are UTC
-- inputs: served_rows (the columns below and `serving`), servings (start_time, serving), others
--   (the columns below, of the other endpoints)
-- A bucket served twice: the later serving wins, whole, even when it holds no rows.
SELECT
  endpoint,
  start_time,
  end_time,
  user_id,
  api_key_id,
  model,
  measure,
  value,
  extra,
  fetched_at
FROM (
  SELECT
    served_rows.endpoint,
    served_rows.start_time,
    served_rows.end_time,
    served_rows.user_id,
    served_rows.api_key_id,
    served_rows.model,
    served_rows.measure,
    served_rows.value,
    served_rows.extra,
    served_rows.fetched_at
  FROM served_rows
  INNER JOIN (
    SELECT start_time, MAX(serving) AS serving
    FROM servings
    GROUP BY start_time
  ) AS latest
    ON served_rows.start_time = latest.start_time AND served_rows.serving = latest.serving
  UNION ALL
  SELECT endpoint, start_time, end_time, user_id, api_key_id, model, measure, value, extra,
    fetched_at
  FROM others
) AS everything
ORDER BY
  endpoint,
  start_time,
  user_id NULLS FIRST,
  api_key_id NULLS FIRST,
  model NULLS FIRST,
  measure,
  value,
  extra NULLS FIRST,
  fetched_at
