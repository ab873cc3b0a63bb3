-- spikes: hours in which a user did far more than in the days before.
-- grain: user_id x 1h bucket; null is a group of its own
-- inputs: usage_1h, coverage
-- parameters: times (how many times the usual), days (that are averaged for it), at_least (operations)
-- What is usual is the mean of the loaded hours before, those without usage among them: as many days of
-- them as asked for, or as there are, a day of them at least. Loaded is what coverage says is not
-- missing. An hour that is not loaded is passed over: it is unknown, not zero.
WITH loaded AS (
  SELECT hour_number, ROW_NUMBER() OVER (ORDER BY hour_number NULLS FIRST) - 1 AS hours_before
  FROM (
    SELECT CAST(epoch(start_time) AS BIGINT) // 3600 AS hour_number
    FROM coverage
    WHERE dataset = 'usage_1h' AND status <> 'missing'
    GROUP BY 1
  ) AS known
),

hours AS (
  SELECT
    usage_1h.user_id,
    loaded.hours_before,
    usage_1h.start_time,
    CAST(SUM(usage_1h.num_operations) AS BIGINT) AS num_operations
  FROM usage_1h
  INNER JOIN loaded ON CAST(epoch(usage_1h.start_time) AS BIGINT) // 3600 = loaded.hour_number
  GROUP BY 1, 2, 3
),

beside AS (
  SELECT
    user_id,
    start_time,
    num_operations,
    hours_before,
    COALESCE(
      SUM(num_operations) OVER (
        PARTITION BY user_id
        ORDER BY hours_before NULLS FIRST
        RANGE BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
      ),
      0
    ) AS all_before,
    COALESCE(
      SUM(num_operations) OVER (
        PARTITION BY user_id
        ORDER BY hours_before NULLS FIRST
        RANGE BETWEEN UNBOUNDED PRECEDING AND (24 * $days + 1) PRECEDING
      ),
      0
    ) AS long_before
  FROM hours
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
