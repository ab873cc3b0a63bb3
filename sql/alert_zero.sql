-- alert_zero: measures of which nothing is counted any more, though these hours never are empty.
-- grain: measure
-- inputs: counted (usage_1h), coverage
-- parameters: through (epoch seconds, the end of the last complete hour), days (how far the baseline
--   goes back), least_days (fewer are no baseline), least (what the same hours usually have at least)
-- An hour that is not loaded is unknown, not zero, and so is one whose rows leave the measure NULL.
-- What is judged are the hours since the last that is not zero, at most 24. The same hours of
-- earlier days are the baseline: on nine of ten of them, or on each of the same weekday, they have
-- to have had $least. Days before silence fell count alone.
WITH measures AS (
  SELECT 'num_conversations_created' AS measure
  UNION ALL
  SELECT 'num_items_added'
  UNION ALL
  SELECT 'num_operations'
), hours AS (
  SELECT CAST(FLOOR(epoch(start_time)) AS BIGINT) AS hour_start
  FROM coverage
  WHERE dataset = 'usage_1h'
    AND status NOT IN ('missing', 'dropped')
    AND complete_through >= end_time
    AND start_time >= to_timestamp($through - $days * 86400 - 86400)
    AND start_time < to_timestamp($through)
), sums AS (
  SELECT
    CAST(FLOOR(epoch(start_time)) AS BIGINT) AS hour_start,
    SUM(num_conversations_created) AS conversations,
    SUM(num_items_added) AS items,
    SUM(num_operations) AS operations
  FROM counted
  GROUP BY 1
), known AS (
  SELECT
    measures.measure,
    hours.hour_start,
    CASE
      WHEN sums.hour_start IS NULL THEN 0
      WHEN measures.measure = 'num_conversations_created' THEN sums.conversations
      WHEN measures.measure = 'num_items_added' THEN sums.items
      ELSE sums.operations
    END AS counted
  FROM hours
  CROSS JOIN measures
  LEFT JOIN sums ON hours.hour_start = sums.hour_start
), gaps AS (
  SELECT
    measure,
    hour_start,
    counted,
    ROW_NUMBER() OVER (PARTITION BY measure ORDER BY hour_start DESC NULLS LAST) AS place
  FROM known
  WHERE counted IS NOT NULL
), silence AS (
  SELECT measure, MIN(hour_start) AS since, COUNT(*) AS num_hours
  FROM (
    SELECT
      measure,
      hour_start,
      MAX(CASE WHEN counted <> 0 OR hour_start <> $through - place * 3600 THEN 1 ELSE 0 END)
        OVER (PARTITION BY measure ORDER BY place NULLS FIRST) AS broken
    FROM gaps
  ) AS run
  WHERE broken = 0
  GROUP BY measure
), judged AS (
  SELECT
    measure,
    since,
    CASE WHEN num_hours > 24 THEN 24 ELSE num_hours END AS num_hours
  FROM silence
), before AS (
  SELECT
    judged.measure,
    ($through - 1 - known.hour_start) // 86400 AS shift,
    SUM(known.counted) AS counted
  FROM judged
  JOIN known
    ON judged.measure = known.measure
    AND known.counted IS NOT NULL
    AND known.hour_start < judged.since
    AND ($through - 1 - known.hour_start) % 86400 < judged.num_hours * 3600
  GROUP BY judged.measure, 2, judged.num_hours
  HAVING COUNT(*) = judged.num_hours
), ranked AS (
  SELECT
    measure,
    shift,
    counted,
    ROW_NUMBER() OVER (PARTITION BY measure ORDER BY counted NULLS FIRST, shift NULLS FIRST)
      AS place,
    COUNT(*) OVER (PARTITION BY measure) AS num_days
  FROM before
), usual AS (
  SELECT
    measure,
    MAX(num_days) AS num_days,
    MAX(
      CASE
        WHEN place = CASE WHEN num_days // 10 >= 1 THEN num_days // 10 + 1 ELSE 2 END THEN counted
      END
    ) AS every_day,
    CASE WHEN COUNT(CASE WHEN shift % 7 = 0 THEN 1 END) >= 3
      THEN MIN(CASE WHEN shift % 7 = 0 THEN counted END)
    END AS every_week
  FROM ranked
  GROUP BY measure
)
SELECT
  judged.measure,
  CAST(judged.since AS BIGINT) AS since,
  CAST(
    CASE WHEN usual.every_week > usual.every_day THEN usual.every_week ELSE usual.every_day END
    AS BIGINT
  ) AS usual,
  CAST(judged.num_hours AS BIGINT) AS num_hours,
  CAST(usual.num_days AS BIGINT) AS num_days
FROM judged
JOIN usual ON judged.measure = usual.measure
WHERE usual.num_days >= $least_days AND (usual.every_day >= $least OR usual.every_week >= $least)
ORDER BY judged.measure NULLS FIRST
