-- users_like: the users whose id begins so, those who use most first.
-- grain: user_id
-- inputs: usage_1d (of the days that count)
-- parameters: beginning (of an id), at_most (rows)
SELECT user_id
FROM usage_1d
WHERE STARTS_WITH(user_id, $beginning)
GROUP BY user_id
ORDER BY SUM(num_operations) DESC, user_id
LIMIT $at_most
