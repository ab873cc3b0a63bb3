-- top_tokens: the users with most tokens in the last days whose responses were read.
-- grain: id; null is a group of its own
-- inputs: tokens_1d, coverage
-- parameters: n (how many), days (UTC days, the last one included)
-- As in top, a day that was read counts, with responses or without, and others are passed over. Who
-- has responses of which none reports its tokens comes last, with NULL.
WITH days_loaded AS (
  SELECT day_number, ROW_NUMBER() OVER (ORDER BY day_number DESC NULLS LAST) AS days_back
  FROM (
    SELECT CAST(epoch(start_time) AS BIGINT) // 86400 AS day_number
    FROM coverage
    WHERE dataset = 'tokens_1d' AND status <> 'missing'
    GROUP BY 1
  ) AS known
),

counted AS (
  SELECT
    tokens_1d.user_id AS id,
    CAST(SUM(tokens_1d.num_responses) AS BIGINT) AS num_responses,
    CAST(SUM(tokens_1d.input_tokens) AS BIGINT) AS input_tokens,
    CAST(SUM(tokens_1d.output_tokens) AS BIGINT) AS output_tokens,
    CAST(SUM(tokens_1d.total_tokens) AS BIGINT) AS total_tokens
  FROM tokens_1d
  INNER JOIN days_loaded
    ON CAST(epoch(tokens_1d.start_time) AS BIGINT) // 86400 = days_loaded.day_number
  WHERE days_loaded.days_back <= $days
  GROUP BY tokens_1d.user_id
),

ranked AS (
  SELECT
    ROW_NUMBER() OVER (ORDER BY total_tokens DESC NULLS LAST, id NULLS FIRST) AS place,
    id,
    num_responses,
    input_tokens,
    output_tokens,
    total_tokens,
    SUM(total_tokens) OVER () AS all_tokens
  FROM counted
)

SELECT
  place,
  id,
  num_responses,
  input_tokens,
  output_tokens,
  total_tokens,
  CASE WHEN all_tokens > 0 THEN ROUND(1e2 * total_tokens / all_tokens, 1) END AS percent_of_tokens
FROM ranked
WHERE place <= $n
ORDER BY place NULLS FIRST
