-- loaded_spans: from when to when a table has everything, without a hole.
-- grain: stretch of time in Unix seconds; one of no length where the first day is disputed
-- inputs: coverage
-- parameters: dataset (the table that is asked about)
-- An hour of a disputed day is loaded, but its numbers are not those of the API: it is complete up to
-- its own start and no further.
WITH known AS (
  SELECT
    CAST(FLOOR(epoch(start_time)) AS BIGINT) AS hour_start,
    CASE
      WHEN status IN ('final', 'provisional') THEN CAST(epoch(complete_through) AS BIGINT)
      ELSE CAST(FLOOR(epoch(start_time)) AS BIGINT)
    END AS hour_through
  FROM coverage
  WHERE dataset = $dataset AND status NOT IN ('missing', 'dropped')
),

marked AS (
  SELECT
    hour_start,
    hour_through,
    CASE
      WHEN LAG(hour_through) OVER (ORDER BY hour_start NULLS FIRST) = hour_start THEN 0
      ELSE 1
    END AS begins
  FROM known
),

numbered AS (
  SELECT
    hour_start,
    hour_through,
    SUM(begins) OVER (ORDER BY hour_start NULLS FIRST) AS span
  FROM marked
)

SELECT
  MIN(hour_start) AS span_start,
  MAX(hour_through) AS span_end
FROM numbered
GROUP BY span
ORDER BY span_start NULLS FIRST
