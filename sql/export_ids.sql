-- export_ids: the users, API keys and models that facts have.
-- grain: user_id x api_key_id x model; null is a group of its own
-- inputs: usage_1h, tokens_1h, costs_1d
SELECT DISTINCT user_id, api_key_id, model
FROM (
  SELECT user_id, api_key_id, CAST(NULL AS TEXT) AS model
  FROM usage_1h
  UNION ALL
  SELECT user_id, api_key_id, model
  FROM tokens_1h
  UNION ALL
  SELECT user_id, api_key_id, model
  FROM costs_1d
) AS facts
