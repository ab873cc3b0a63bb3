-- dim_date: what a calendar says of each day.
-- grain: UTC day
-- inputs: days (day_number since 1970, is_loaded, is_complete)
-- A week is an ISO week: it begins on Monday, and belongs to the year of its Thursday. 1970 began on
-- a Thursday, so weekdays are counted from the number of the day.
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
  is_complete
FROM (
  SELECT
    DATE '1970-01-01' + CAST(day_number AS INTEGER) AS "date",
    DATE '1970-01-01' + CAST(day_number - (day_number + 3) % 7 + 3 AS INTEGER) AS thursday,
    (day_number + 3) % 7 + 1 AS weekday,
    is_loaded,
    is_complete
  FROM days
) AS numbered
ORDER BY "date"
