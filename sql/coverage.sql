-- coverage: what is known of each hour of a day, table by table.
-- grain: dataset x hour
-- inputs: hours (start_time, end_time of the day's 24), known (dataset, complete_through,
--   fetched_at; NULL where it is not loaded; disputed: its totals are not the API's own), counted (dataset, start_time of the hour, num_rows)
-- parameters: restated_for (seconds after an hour's end within which the API may still restate it)
SELECT
  known.dataset,
  hours.start_time,
  hours.end_time,
  CASE
    WHEN known.complete_through IS NULL OR known.complete_through <= hours.start_time THEN 'missing'
    WHEN known.disputed THEN 'disputed'
    WHEN
      known.complete_through >= hours.end_time
      AND epoch(known.fetched_at) >= epoch(hours.end_time) + $restated_for
      THEN 'final'
    ELSE 'provisional'
  END AS status,
  CASE
    WHEN known.disputed OR known.complete_through <= hours.start_time THEN NULL
    WHEN known.complete_through < hours.end_time THEN known.complete_through
    WHEN known.complete_through >= hours.end_time THEN hours.end_time
  END AS complete_through,
  COALESCE(counted.num_rows, 0) AS "rows",
  CASE WHEN known.complete_through > hours.start_time THEN known.fetched_at END AS fetched_at
FROM known
CROSS JOIN hours
LEFT JOIN counted
  ON known.dataset = counted.dataset AND hours.start_time = counted.start_time
ORDER BY known.dataset, hours.start_time
