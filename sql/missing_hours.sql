-- missing_hours: what coverage says of stretches of days that no file speaks of.
-- grain: dataset x hour
-- inputs: stretches (dataset, first_day, last_day: numbers of days since 1970)
SELECT
  dataset,
  to_timestamp(hour_number * 3600) AS start_time,
  to_timestamp(hour_number * 3600 + 3600) AS end_time,
  'missing' AS status,
  CAST(NULL AS TIMESTAMPTZ) AS complete_through,
  CAST(0 AS BIGINT) AS "rows",
  CAST(NULL AS TIMESTAMPTZ) AS fetched_at
FROM (
  SELECT
    dataset,
    UNNEST(GENERATE_SERIES(first_day * 24, last_day * 24 + 23)) AS hour_number
  FROM stretches
) AS hours
