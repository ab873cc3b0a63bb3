-- report_units: usage over time.
-- grain: period x unit (a local hour, day, week or month, by the number of its first hour); those without
--   usage are left out
-- inputs: members (what report_members gives)
SELECT
  period,
  unit,
  CAST(SUM(conversations) AS BIGINT) AS conversations,
  CAST(SUM(items) AS BIGINT) AS items,
  CAST(SUM(operations) AS BIGINT) AS operations,
  COUNT(user_id) AS users
FROM members
WHERE period <> 'earlier'
GROUP BY period, unit
ORDER BY period, unit
