-- report_week: operations of this period by hour and weekday.
-- grain: weekday (1 Monday to 7 Sunday) x hour (0 to 23), local; those without usage are left out
-- inputs: hours (what report_hours gives)
SELECT weekday, hour, CAST(SUM(operations) AS BIGINT) AS operations
FROM hours
WHERE period = 'this'
GROUP BY weekday, hour
ORDER BY weekday, hour
