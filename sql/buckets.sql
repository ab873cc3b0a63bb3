-- buckets: the buckets of a width and a time zone, and whether each is loaded whole.
-- grain: bucket
-- inputs: edges (start_time, end_time; what bucket_edges gives), coverage
-- parameters: table_name (the table that is asked about)
-- A bucket is complete if the hours that are loaded cover each of its seconds. Hours of a disputed day
-- are loaded, but their numbers are not those of the API: they cover nothing.
SELECT
  edges.start_time,
  edges.end_time,
  COALESCE(
    SUM(
      CASE
        -- LEAST and GREATEST pass over NULL.
        WHEN known.start_time IS NOT NULL
          THEN
            LEAST(epoch(edges.end_time), epoch(known.complete_through))
            - GREATEST(epoch(edges.start_time), epoch(known.start_time))
      END
    ),
    0
  ) = epoch(edges.end_time) - epoch(edges.start_time) AS is_complete
FROM edges
LEFT JOIN (
  SELECT start_time, complete_through
  FROM coverage
  WHERE dataset = $table_name AND status IN ('final', 'provisional')
) AS known
  ON edges.start_time < known.complete_through AND edges.end_time > known.start_time
GROUP BY edges.start_time, edges.end_time
ORDER BY edges.start_time NULLS FIRST
