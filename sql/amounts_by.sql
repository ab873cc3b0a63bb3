-- amounts_by: what users and keys come to in spans of time, which may overlap.
-- grain: span x user_id x api_key_id; null is a group of its own
-- inputs: amount_rows (start_time, user_id, api_key_id, amount: null where it is unknown, num_unknown:
--   how many have an unknown one), edges (start_time, end_time: few spans)
SELECT
  edges.start_time,
  edges.end_time,
  amount_rows.user_id,
  amount_rows.api_key_id,
  CAST(SUM(amount_rows.amount) AS DECIMAL(38, 15)) AS amount,
  CAST(SUM(amount_rows.num_unknown) AS BIGINT) AS num_unknown
FROM amount_rows
INNER JOIN edges
  ON amount_rows.start_time >= edges.start_time AND amount_rows.start_time < edges.end_time
GROUP BY edges.start_time, edges.end_time, amount_rows.user_id, amount_rows.api_key_id
ORDER BY
  edges.start_time NULLS FIRST,
  edges.end_time NULLS FIRST,
  amount_rows.user_id NULLS FIRST,
  amount_rows.api_key_id NULLS FIRST
