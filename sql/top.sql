-- top: the users, or keys, with most operations in the last days that are loaded.
-- grain: id; null is a group of its own
-- inputs: usage_1d, coverage
-- parameters: by (user_id or api_key_id), n (how many), days (UTC days, the last one included)
-- Loaded is what coverage says is not missing: a day without usage counts, as do the day that is under
-- way and one that is disputed. A day that is not loaded is passed over.
WITH days_loaded AS (
  SELECT day_number, ROW_NUMBER() OVER (ORDER BY day_number DESC NULLS LAST) AS days_back
  FROM (
    SELECT CAST(epoch(start_time) AS BIGINT) // 86400 AS day_number
    FROM coverage
    WHERE dataset = 'usage_1d' AND status <> 'missing'
    GROUP BY 1
  ) AS known
),

counted AS (
  SELECT
    CASE $by WHEN 'user_id' THEN usage_1d.user_id ELSE usage_1d.api_key_id END AS id,
    CAST(SUM(usage_1d.num_conversations_created) AS BIGINT) AS num_conversations_created,
    CAST(SUM(usage_1d.num_items_added) AS BIGINT) AS num_items_added,
    CAST(SUM(usage_1d.num_operations) AS BIGINT) AS num_operations
  FROM usage_1d
  INNER JOIN days_loaded
    ON CAST(epoch(usage_1d.start_time) AS BIGINT) // 86400 = days_loaded.day_number
  WHERE days_loaded.days_back <= $days
  GROUP BY 1
),

ranked AS (
  SELECT
    ROW_NUMBER() OVER (ORDER BY num_operations DESC NULLS LAST, id NULLS FIRST) AS place,
    id,
    num_conversations_created,
    num_items_added,
    num_operations,
    SUM(num_operations) OVER () AS all_operations
  FROM counted
)

SELECT
  place,
  id,
  num_conversations_created,
  num_items_added,
  num_operations,
  CASE
    WHEN all_operations > 0 THEN ROUND(1e2 * num_operations / all_operations, 1)
  END AS percent_of_operations
FROM ranked
WHERE place <= $n
ORDER BY place NULLS FIRST
