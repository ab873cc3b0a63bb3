-- model_days: which models were used on which UTC days, and how much.
-- grain: model x day_number (since 1970); null is a model of its own
-- inputs: tokens_rows (a table of tokens)
SELECT
  model,
  CAST(epoch(start_time) AS BIGINT) // 86400 AS day_number,
  CAST(SUM(num_responses) AS BIGINT) AS num_responses,
  CAST(SUM(input_tokens) AS BIGINT) AS input_tokens,
  CAST(SUM(output_tokens) AS BIGINT) AS output_tokens
FROM tokens_rows
GROUP BY model, CAST(epoch(start_time) AS BIGINT) // 86400
ORDER BY model NULLS FIRST, CAST(epoch(start_time) AS BIGINT) // 86400 NULLS FIRST
