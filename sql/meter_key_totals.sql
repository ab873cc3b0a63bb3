-- meter_key_totals: totals of each bucket of an endpoint, by key and measure.
-- grain: bucket x api_key_id x measure; the start is Unix seconds; null is a group of its own
-- inputs: counted (a meters table)
-- parameters: endpoint
SELECT
  CAST(epoch(start_time) AS BIGINT) AS bucket_start,
  api_key_id,
  measure,
  CAST(SUM(value) AS BIGINT) AS total
FROM counted
WHERE endpoint = $endpoint
GROUP BY 1, api_key_id, measure
ORDER BY 1, api_key_id NULLS FIRST, measure
