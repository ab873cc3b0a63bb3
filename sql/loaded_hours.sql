-- loaded_hours: the hours of which a table has something, and through when.
-- grain: hour; hour_start and hour_through are epoch seconds
-- inputs: coverage
-- parameters: dataset (the table that is asked about)
-- An hour of a disputed day is loaded, though its numbers are not those of the API.
SELECT
  CAST(FLOOR(epoch(start_time)) AS BIGINT) AS hour_start,
  CASE
    WHEN status = 'disputed' THEN CAST(epoch(end_time) AS BIGINT)
    ELSE CAST(epoch(complete_through) AS BIGINT)
  END AS hour_through
FROM coverage
WHERE dataset = $dataset AND status NOT IN ('missing', 'dropped')
ORDER BY hour_start NULLS FIRST
