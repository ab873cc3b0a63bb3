-- spikes: hours in which a user did far more than in the days before.
-- grain: user_id x 1h bucket; null is a group of its own
-- inputs: usage_1h
-- parameters: times (how many times the usual), days (that are averaged for it), at_least (operations)
-- What is usual is the mean of the hours before, those without usage among them: as many days of them
-- as asked for, or as there are since the first day that is loaded, a day of them at least.
WITH hours AS (
  SELECT
    user_id,
    CAST(epoch(start_time) AS BIGINT) // 3600 AS hour_number,
    start_time,
    CAST(SUM(num_operations) AS BIGINT) AS num_operations
  FROM usage_1h
  GROUP BY 1, 2, 3
),

beside AS (
  SELECT
    hours.user_id,
    hours.start_time,
    hours.num_operations,
    COALESCE(
      SUM(hours.num_operations) OVER (
        PARTITION BY hours.user_id
        ORDER BY hours.hour_number NULLS FIRST
        RANGE BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
      ),
      0
    ) AS all_before,
    COALESCE(
      SUM(hours.num_operations) OVER (
        PARTITION BY hours.user_id
        ORDER BY hours.hour_number NULLS FIRST
        RANGE BETWEEN UNBOUNDED PRECEDING AND (24 * $days + 1) PRECEDING
      ),
      0
    ) AS long_before,
    hours.hour_number - loaded.first_hour AS hours_before
  FROM hours
  CROSS JOIN (
    SELECT MIN(CAST(epoch(start_time) AS BIGINT) // 86400 * 24) AS first_hour
    FROM usage_1h
  ) AS loaded
),

usual AS (
  SELECT
    user_id,
    start_time,
    num_operations,
    1e0 * (all_before - long_before)
    / CASE WHEN hours_before < 24 * $days THEN hours_before ELSE 24 * $days END AS usual_operations
  FROM beside
  WHERE hours_before >= 24
)

SELECT
  user_id,
  start_time,
  num_operations,
  ROUND(usual_operations, 1) AS usual_operations,
  CASE
    WHEN usual_operations > 0 THEN ROUND(1e0 * num_operations / usual_operations, 1)
  END AS times_usual
FROM usual
WHERE num_operations >= $at_least
  AND num_operations > $times * usual_operations
ORDER BY num_operations DESC NULLS LAST, start_time NULLS FIRST, user_id NULLS FIRST
