-- report_arrivals: when users came who had not been there before this period.
-- grain: unit (a local hour, day, week or month, by the number of its first hour); those without are left out
-- inputs: hours (what report_hours gives), usage_1d (of the UTC days that end before this period)
WITH before_this AS (
  SELECT user_id FROM usage_1d
  UNION
  SELECT user_id FROM hours WHERE period <> 'this'
), first_units AS (
  SELECT hours.user_id, MIN(hours.unit) AS unit
  FROM hours
  LEFT JOIN before_this ON hours.user_id = before_this.user_id
  WHERE hours.period = 'this' AND hours.user_id IS NOT NULL AND before_this.user_id IS NULL
  GROUP BY hours.user_id
)
SELECT unit, COUNT(*) AS new_users
FROM first_units
GROUP BY unit
ORDER BY unit
