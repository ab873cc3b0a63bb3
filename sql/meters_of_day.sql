-- meters_of_day: what each endpoint counted on a day, all users, keys and models together.
-- grain: endpoint x measure
-- inputs: counted (meters_1d of one day)
SELECT endpoint, measure, SUM(value) AS total
FROM counted
GROUP BY endpoint, measure
ORDER BY endpoint, measure
