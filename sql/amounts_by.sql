-- amounts_by: what users and keys come to in spans of time, which may overlap.
-- grain: span x user_id x api_key_id; null is a group of its own, of all users that are not asked for
-- inputs: amount_rows (start_time, user_id, api_key_id, amount: null where it is unknown, num_unknown:
--   how many have an unknown one), edges (start_time, end_time: few spans), asked (scope, id: users
--   that are asked for have the scope user)
-- By the minute first, so that few rows are held against the spans, however many users there are.
SELECT
  edges.start_time,
  edges.end_time,
  minutes.user_id,
  minutes.api_key_id,
  CAST(SUM(minutes.amount) AS DECIMAL(38, 15)) AS amount,
  CAST(SUM(minutes.num_unknown) AS BIGINT) AS num_unknown
FROM (
  SELECT
    amount_rows.start_time,
    wanted.id AS user_id,
    amount_rows.api_key_id,
    CAST(SUM(amount_rows.amount) AS DECIMAL(38, 15)) AS amount,
    SUM(amount_rows.num_unknown) AS num_unknown
  FROM amount_rows
  LEFT JOIN (SELECT DISTINCT id FROM asked WHERE scope = 'user') AS wanted
    ON amount_rows.user_id = wanted.id
  GROUP BY amount_rows.start_time, wanted.id, amount_rows.api_key_id
) AS minutes
INNER JOIN edges
  ON minutes.start_time >= edges.start_time AND minutes.start_time < edges.end_time
GROUP BY edges.start_time, edges.end_time, minutes.user_id, minutes.api_key_id
ORDER BY
  edges.start_time NULLS FIRST,
  edges.end_time NULLS FIRST,
  minutes.user_id NULLS FIRST,
  minutes.api_key_id NULLS FIRST
