-- tokens_of_day: what models did on a day, hour by hour.
-- grain: model x UTC hour of one day; hours without responses are left out
-- inputs: tokens_1h (one day)
-- A number that no row knows is 0 here: it is a part of what was done at least.
SELECT
  model,
  CAST(epoch(start_time) AS BIGINT) % 86400 // 3600 AS hour,
  COALESCE(SUM(num_responses), 0) AS num_responses,
  COALESCE(SUM(num_failed), 0) AS num_failed,
  COALESCE(SUM(total_tokens), 0) AS total_tokens
FROM tokens_1h
GROUP BY model, 2
ORDER BY model NULLS FIRST, 2
