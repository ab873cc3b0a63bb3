-- check_meter_totals: totals of an endpoint's measure that differ between tables of meters.
-- grain: endpoint x measure, only where the tables disagree; no row is a pass
-- inputs: raw_meters, meters_1m, meters_1h, meters_1d (of one day)
SELECT
  endpoint,
  measure,
  COUNT(*) AS num_tables,
  MIN(total) AS least,
  MAX(total) AS most
FROM (
  SELECT endpoint, measure, SUM(value) AS total FROM raw_meters GROUP BY endpoint, measure
  UNION ALL
  SELECT endpoint, measure, SUM(value) FROM meters_1m GROUP BY endpoint, measure
  UNION ALL
  SELECT endpoint, measure, SUM(value) FROM meters_1h GROUP BY endpoint, measure
  UNION ALL
  SELECT endpoint, measure, SUM(value) FROM meters_1d GROUP BY endpoint, measure
) AS totals
GROUP BY endpoint, measure
HAVING COUNT(*) <> 4 OR MIN(total) <> MAX(total)
ORDER BY endpoint, measure
LIMIT 20
