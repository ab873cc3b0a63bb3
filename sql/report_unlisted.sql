-- report_unlisted: API keys with usage in this period of whose responses nothing is known.
-- grain: API key; null stands for usage without a key
-- inputs: hours (what report_hours gives), period_tokens (what report_tokens gives), reconciliation
--   (of the period's days)
-- A key is known that has a response, or a user whose listing was read: then a comparison can be made.
-- What is listed under several keys has none.
WITH listed AS (
  SELECT api_key_id FROM period_tokens WHERE period = 'this' AND api_key_id IS NOT NULL
  UNION
  SELECT api_key_id FROM reconciliation WHERE class <> 'not derivable' AND api_key_id IS NOT NULL
)
SELECT hours.api_key_id, CAST(SUM(hours.operations) AS BIGINT) AS operations
FROM hours
WHERE
  hours.period = 'this'
  AND NOT EXISTS (SELECT 1 FROM listed WHERE listed.api_key_id = hours.api_key_id)
GROUP BY hours.api_key_id
ORDER BY operations DESC NULLS LAST, hours.api_key_id NULLS LAST
