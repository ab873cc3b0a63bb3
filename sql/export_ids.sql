-- export_ids: the users and API keys that have usage.
-- grain: user_id x api_key_id; null is a group of its own
-- inputs: usage_1h
SELECT DISTINCT user_id, api_key_id
FROM usage_1h
