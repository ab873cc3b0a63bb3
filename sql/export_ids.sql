-- export_ids: the users, the API keys or the models that facts have.
-- grain: id; null stands for none
-- inputs: usage_1h, tokens_1h, costs_1d
-- parameters: by (user_id, api_key_id or model)
SELECT DISTINCT CASE $by WHEN 'user_id' THEN user_id WHEN 'api_key_id' THEN api_key_id ELSE model END AS id
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
