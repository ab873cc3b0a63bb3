-- open_days: days with a difference that what is landed later may explain.
-- grain: UTC day, by its number since 1970
-- inputs: reconciliation
SELECT DISTINCT CAST(epoch(day) AS BIGINT) // 86400 AS day_number
FROM reconciliation
WHERE class <> 'match' AND class <> 'not derivable'
ORDER BY day_number NULLS FIRST
