-- ids_like: the ids that begin so, those that are used most first.
-- grain: id
-- inputs: used (id, amount: who or what was used, and how much, on the days that count)
-- parameters: beginning (of an id), at_most (rows)
SELECT id
FROM used
WHERE STARTS_WITH(id, $beginning)
GROUP BY id
ORDER BY SUM(amount) DESC, id
LIMIT $at_most
