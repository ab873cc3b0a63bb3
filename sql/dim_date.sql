-- dim_date: what a calendar says of each day.
-- grain: UTC day
-- inputs: days (day_number since 1970, is_loaded, is_complete), coverage
-- A week is an ISO week: it begins on Monday, and belongs to the year of its Thursday. 1970 began on
-- a Thursday, so weekdays are counted from the number of the day.
-- A status is that of the day's hours in coverage: the one that promises least. An hour that is not
-- read makes a day that is read otherwise provisional.
WITH known AS (
  SELECT
    dataset,
    CAST(epoch(start_time) AS BIGINT) // 86400 AS day_number,
    CASE
      WHEN SUM(CASE status WHEN 'missing' THEN 0 ELSE 1 END) = 0 THEN 'missing'
      WHEN SUM(CASE status WHEN 'disputed' THEN 1 ELSE 0 END) > 0 THEN 'disputed'
      WHEN SUM(CASE WHEN status IN ('missing', 'provisional') THEN 1 ELSE 0 END) > 0
        THEN 'provisional'
      WHEN SUM(CASE status WHEN 'dropped' THEN 1 ELSE 0 END) > 0 THEN 'dropped'
      ELSE 'final'
    END AS status
  FROM coverage
  GROUP BY dataset, CAST(epoch(start_time) AS BIGINT) // 86400
)
SELECT
  "date",
  CAST(YEAR("date") AS BIGINT) AS "year",
  (CAST(MONTH("date") AS BIGINT) + 2) // 3 AS "quarter",
  CAST(MONTH("date") AS BIGINT) AS "month",
  CASE MONTH("date")
    WHEN 1 THEN 'January' WHEN 2 THEN 'February' WHEN 3 THEN 'March' WHEN 4 THEN 'April'
    WHEN 5 THEN 'May' WHEN 6 THEN 'June' WHEN 7 THEN 'July' WHEN 8 THEN 'August'
    WHEN 9 THEN 'September' WHEN 10 THEN 'October' WHEN 11 THEN 'November' ELSE 'December'
  END AS month_name,
  CAST(DAY("date") AS BIGINT) AS day_of_month,
  CAST(YEAR(thursday) AS BIGINT) AS iso_year,
  (CAST(DAYOFYEAR(thursday) AS BIGINT) + 6) // 7 AS iso_week,
  weekday,
  CASE weekday
    WHEN 1 THEN 'Monday' WHEN 2 THEN 'Tuesday' WHEN 3 THEN 'Wednesday' WHEN 4 THEN 'Thursday'
    WHEN 5 THEN 'Friday' WHEN 6 THEN 'Saturday' ELSE 'Sunday'
  END AS weekday_name,
  weekday >= 6 AS is_weekend,
  is_loaded,
  is_complete,
  COALESCE(of_usage.status, 'missing') AS usage_status,
  COALESCE(of_tokens.status, 'missing') AS tokens_status,
  COALESCE(of_costs.status, 'missing') AS costs_status
FROM (
  SELECT
    day_number,
    DATE '1970-01-01' + CAST(day_number AS INTEGER) AS "date",
    DATE '1970-01-01' + CAST(day_number - (day_number + 3) % 7 + 3 AS INTEGER) AS thursday,
    (day_number + 3) % 7 + 1 AS weekday,
    is_loaded,
    is_complete
  FROM days
) AS numbered
LEFT JOIN known AS of_usage
  ON numbered.day_number = of_usage.day_number AND of_usage.dataset = 'usage_1h'
LEFT JOIN known AS of_tokens
  ON numbered.day_number = of_tokens.day_number AND of_tokens.dataset = 'tokens_1h'
LEFT JOIN known AS of_costs
  ON numbered.day_number = of_costs.day_number AND of_costs.dataset = 'costs_1d'
ORDER BY "date"
