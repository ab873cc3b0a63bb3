-- report_token_sums: responses and tokens of one period, in all or by bar, model, user, key or team.
-- grain: group of `grouped` (one row for in all), those without responses are left out
-- inputs: period_tokens (what report_tokens gives)
-- parameters: period (this or before), paired_only (boolean: only days that are compared),
--   grouped (all, unit, model, user, key or team)
SELECT
  CASE WHEN $grouped = 'unit' THEN unit END AS unit,
  CASE
    WHEN $grouped = 'model' THEN model
    WHEN $grouped = 'user' THEN user_id
    WHEN $grouped = 'key' THEN api_key_id
    WHEN $grouped = 'team' THEN team_id
  END AS id,
  CAST(SUM(responses) AS BIGINT) AS responses,
  CAST(SUM(failed) AS BIGINT) AS failed,
  CAST(SUM(input) AS BIGINT) AS input,
  CAST(SUM(cached) AS BIGINT) AS cached,
  CAST(SUM(output) AS BIGINT) AS output,
  CAST(SUM(reasoning) AS BIGINT) AS reasoning,
  CAST(SUM(total) AS BIGINT) AS total
FROM period_tokens
WHERE period = $period AND (paired OR NOT $paired_only)
GROUP BY 1, 2
