-- buckets: the buckets of a width and a time zone, and whether each is loaded whole.
-- grain: bucket
-- inputs: edges (start_time, end_time; what bucket_edges gives), coverage
-- A bucket is complete if no hour that it overlaps is missing, and it lies where something is loaded.
SELECT
  edges.start_time,
  edges.end_time,
  edges.start_time >= loaded.first_time
  AND edges.end_time <= loaded.last_time
  AND missing.start_time IS NULL AS is_complete
FROM edges
CROSS JOIN (
  SELECT MIN(start_time) AS first_time, MAX(complete_through) AS last_time
  FROM coverage
  WHERE dataset = 'usage_1m' AND status <> 'missing'
) AS loaded
LEFT JOIN (
  SELECT edges.start_time
  FROM edges
  INNER JOIN coverage
    ON edges.start_time < coverage.end_time AND edges.end_time > coverage.start_time
  CROSS JOIN (
    SELECT MAX(complete_through) AS last_time
    FROM coverage
    WHERE dataset = 'usage_1m'
  ) AS loaded
  WHERE coverage.dataset = 'usage_1m'
    AND coverage.status = 'missing'
    AND coverage.start_time < loaded.last_time
  GROUP BY edges.start_time
) AS missing
  ON edges.start_time = missing.start_time
ORDER BY edges.start_time NULLS FIRST
