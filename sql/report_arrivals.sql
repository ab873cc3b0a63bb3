-- report_arrivals: when users came who had not been there before this period.
-- grain: unit (a local hour, day, week or month, by the number of its first hour); those without are left out
-- inputs: members (what report_members gives), usage_1d (of the UTC days that end before this period)
WITH first_units AS (
  SELECT user_id, MIN(unit) AS unit
  FROM members
  WHERE user_id IS NOT NULL
  GROUP BY user_id
  HAVING COUNT(CASE WHEN period <> 'this' THEN 1 END) = 0
)
SELECT unit, COUNT(*) AS new_users
FROM first_units
WHERE NOT EXISTS (SELECT 1 FROM usage_1d WHERE usage_1d.user_id = first_units.user_id)
GROUP BY unit
ORDER BY unit
