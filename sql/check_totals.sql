-- check_totals: days whose totals differ between raw_usage, usage_1m, usage_1h and usage_1d.
-- grain: UTC day x table, only days on which the tables that have it disagree; no row is a pass
-- inputs: raw_usage, usage_1m, usage_1h, usage_1d
-- Each table is summed by its own buckets first: there are few, and a day is cut from a moment once.
WITH counted AS (
  SELECT 'raw_usage' AS source, start_time,
    SUM(num_conversations_created) AS num_conversations_created,
    SUM(num_items_added) AS num_items_added, SUM(num_operations) AS num_operations
  FROM raw_usage
  GROUP BY start_time
  UNION ALL
  SELECT 'usage_1m', start_time, SUM(num_conversations_created), SUM(num_items_added),
    SUM(num_operations)
  FROM usage_1m
  GROUP BY start_time
  UNION ALL
  SELECT 'usage_1h', start_time, SUM(num_conversations_created), SUM(num_items_added),
    SUM(num_operations)
  FROM usage_1h
  GROUP BY start_time
  UNION ALL
  SELECT 'usage_1d', start_time, SUM(num_conversations_created), SUM(num_items_added),
    SUM(num_operations)
  FROM usage_1d
  GROUP BY start_time
), totals AS (
  SELECT
    source,
    CAST(epoch(start_time) AS BIGINT) // 86400 AS day_number,
    COALESCE(SUM(num_conversations_created), 0) AS num_conversations_created,
    COALESCE(SUM(num_items_added), 0) AS num_items_added,
    COALESCE(SUM(num_operations), 0) AS num_operations
  FROM counted
  GROUP BY 1, 2
), disagreeing AS (
  SELECT day_number
  FROM totals
  GROUP BY day_number
  HAVING
    COUNT(*) <> 4
    OR MIN(num_conversations_created) <> MAX(num_conversations_created)
    OR MIN(num_items_added) <> MAX(num_items_added)
    OR MIN(num_operations) <> MAX(num_operations)
)
SELECT
  to_timestamp(totals.day_number * 86400) AS day,
  totals.source,
  totals.num_conversations_created,
  totals.num_items_added,
  totals.num_operations
FROM totals
INNER JOIN disagreeing ON totals.day_number = disagreeing.day_number
ORDER BY day, source
LIMIT 80
