-- meter_totals: totals of each bucket of an endpoint, by measure.
-- grain: bucket x measure; the start is Unix seconds
-- inputs: counted (a meters table)
-- parameters: endpoint
SELECT
  CAST(epoch(start_time) AS BIGINT) AS bucket_start,
  measure,
  CAST(SUM(value) AS BIGINT) AS total
FROM counted
WHERE endpoint = $endpoint
GROUP BY 1, measure
ORDER BY 1, measure
