-- bucket_edges: the buckets of any width on the wall clock of a time zone.
-- grain: bucket, those that overlap the span; buckets follow each other without a gap
-- inputs: span (start_time, end_time: one row, what is asked for), zone (zone_start, zone_end,
--   clock_offset, offset_before: the zone's offsets from UTC, in epoch seconds and seconds, in
--   order, from a bucket before the span to a bucket after it; offset_before is NULL in the first)
-- parameters: width (1m, 5m, 15m, 1h, 6h, 1d, 1w or 1mo)
-- Buckets up to an hour begin where the clock shows a multiple of the width, and where it is moved:
-- an hour that comes twice is two buckets. Longer ones begin at the first moment at which the clock
-- shows their beginning or, where that is skipped, what comes after it. Weeks begin on Mondays.
-- Integer arithmetic on epoch seconds: no session time zone has a say.
WITH asked AS (
  SELECT
    CAST(epoch(start_time) AS BIGINT) AS span_start,
    CAST(epoch(end_time) AS BIGINT) AS span_end,
    CASE $width
      WHEN '1m' THEN 60
      WHEN '5m' THEN 300
      WHEN '15m' THEN 900
      WHEN '1h' THEN 3600
      WHEN '6h' THEN 21600
      WHEN '1d' THEN 86400
      WHEN '1w' THEN 86400
      WHEN '1mo' THEN 86400
    END AS step
  FROM span
),

-- What the clock shows where a bucket may begin.
marks AS (
  SELECT
    UNNEST(
      GENERATE_SERIES(
        (zone_start + clock_offset) // step * step,
        (zone_end + clock_offset - 1) // step * step,
        step
      )
    ) AS shown,
    clock_offset,
    zone_start
  FROM zone
  CROSS JOIN asked
),

-- And when: also where it jumps over what it would have shown.
beginnings AS (
  SELECT shown, shown - clock_offset AS moment
  FROM marks
  WHERE shown - clock_offset >= zone_start
  UNION
  SELECT
    CASE
      WHEN step <= 3600 THEN zone_start + clock_offset
      ELSE (zone_start + clock_offset) // step * step
    END AS shown,
    zone_start AS moment
  FROM zone
  CROSS JOIN asked
  WHERE offset_before IS NOT NULL
    AND (
      step <= 3600
      OR (zone_start + clock_offset) // step * step >= zone_start + offset_before
    )
),

days AS (
  SELECT shown, moment, step
  FROM beginnings
  CROSS JOIN asked
),

firsts AS (
  SELECT MIN(moment) AS moment
  FROM days
  WHERE $width NOT IN ('1w', '1mo')
    OR ($width = '1w' AND (shown // 86400 + 3) % 7 = 0)
    OR ($width = '1mo' AND DAY(DATE '1970-01-01' + CAST(shown // 86400 AS INTEGER)) = 1)
  GROUP BY shown, CASE WHEN step <= 3600 THEN moment END
),

buckets AS (
  SELECT
    moment AS bucket_start,
    LEAD(moment) OVER (ORDER BY moment NULLS FIRST) AS bucket_end
  FROM firsts
)

SELECT
  to_timestamp(bucket_start) AS start_time,
  to_timestamp(bucket_end) AS end_time
FROM buckets
CROSS JOIN asked
WHERE bucket_end > span_start
  AND bucket_start < span_end
ORDER BY bucket_start NULLS FIRST
